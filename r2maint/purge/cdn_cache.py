"""Let Cloudflare's caches forget what a purge deleted or restored.

A cache serves a deleted file until its `max-age` is over, and keeps a 404 of a restored one for
some minutes. Which keys are meant is read from the journal, so that a run that was killed after its
deletion, or could not reach the API, is caught up with by the next one that purges caches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from r2maint.cloudflare import API_URL, MAX_URLS, Cloudflare
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import CloudflareError, CloudflareRefusal, ConfigError
from r2maint.journal import journal
from r2maint.keys import host_of, url_paths
from r2maint.models import Change, ChangeKind, ChangeState, Run, RunState
from r2maint.scratch.batches import batched

OPTION = "purge_cache"
"""Of a run: its caches are to be purged."""
_DONE = "caches_purged"
_GONE = (ChangeState.INTENDED, ChangeState.DONE, ChangeState.UNDONE)
"""Of a deletion: the object is gone, may be gone, or was gone for a while."""
_UNCACHED = (".r2.dev", ".r2.cloudflarestorage.com")
"""Hosts that no zone caches for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """What became of URLs that caches were to forget."""

    purged: int = 0
    failed: int = 0
    reason: str = ""
    """Why the first of them failed."""

    def __add__(self, other: Purged) -> Purged:
        return Purged(
            purged=self.purged + other.purged,
            failed=self.failed + other.failed,
            reason=self.reason or other.reason,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Caches:
    """The caches of one zone, as far as they serve the bucket."""

    api: Cloudflare
    zone_id: str
    bases: tuple[str, ...]
    """Base URLs of the bucket; PUBLIC_URL first."""

    @classmethod
    def from_config(
        cls, config: Config, *, control: Control | None = None, api_url: str = API_URL
    ) -> Caches:
        """Return the caches `config` declares. Raises: ConfigError where something is missing."""
        api = Cloudflare(token=config.api_token, api_url=api_url, control=control or Control())
        if not (config.zone_id.isascii() and config.zone_id.isalnum()):
            hint = "Set R2MAINT['ZONE_ID'], or CLOUDFLARE_ZONE_ID in the environment, to the id on"
            raise ConfigError("There is no zone id.", f"{hint} the overview page of the domain.")
        given = (config.public_url, *config.aliases)
        bases = tuple(url for url in given if url and not host_of(url).endswith(_UNCACHED))
        if not bases:
            hint = "r2.dev and S3 endpoints are not cached. Set PUBLIC_URL to the custom domain."
            raise ConfigError("No public URL of the bucket is cached.", hint)
        return cls(api=api, zone_id=config.zone_id, bases=bases)

    def proved(self) -> Caches:
        """Return the caches of the bases that are the zone's, after asking for each.

        Raises: CloudflareError when the token, the zone or all of the bases are refused.
        """
        mine, foreign = [], None
        for base in self.bases:
            try:
                self.api.purge_urls(self.zone_id, [base])
                mine.append(base)
            except CloudflareRefusal as refusal:
                if not refusal.is_foreign:
                    raise
                foreign = refusal
        if not mine and foreign is not None:
            raise CloudflareRefusal(
                foreign.message, "ZONE_ID must be the zone of PUBLIC_URL.", is_foreign=True
            )
        return replace(self, bases=tuple(mine))

    def purge(self, keys: Iterable[str]) -> Purged:
        """Let the caches forget every URL of these keys. Raises: Stopped.

        What cannot be purged is counted: after a failure that the next request would meet too,
        nothing more is asked.
        """
        total, is_hopeless = Purged(), False
        for batch in batched(self._urls(keys), MAX_URLS):
            if is_hopeless:
                total += Purged(failed=len(batch))
                continue
            try:
                total += self._purge(batch)
            except CloudflareError as error:
                is_hopeless = True
                total += Purged(failed=len(batch), reason=str(error))
        return total

    def _urls(self, keys: Iterable[str]) -> Iterator[str]:
        for key in keys:
            for base in self.bases:
                yield from (base + path for path in url_paths(key))

    def _purge(self, urls: list[str]) -> Purged:
        try:
            self.api.purge_urls(self.zone_id, urls)
        except CloudflareRefusal as refusal:
            if refusal.is_general:
                raise
            if len(urls) == 1:
                return Purged(failed=1, reason=str(refusal))
            # One URL that is refused takes the whole request with it.
            half = len(urls) // 2
            return self._purge(urls[:half]) + self._purge(urls[half:])
        return Purged(purged=len(urls))


def owing_runs(command: str, bucket: str) -> tuple[str, ...]:
    """Return the finished runs whose caches were to be purged and are not, oldest first."""
    runs = Run.objects.using(journal.home()).filter(command=command, bucket=bucket)
    ended = runs.filter(state=RunState.FINISHED).order_by("id").values_list("pk", "options")
    return tuple(pk for pk, options in ended if options.get(OPTION) and not options.get(_DONE))


def purge_runs(caches: Caches, run_ids: Iterable[str]) -> Purged:
    """Let the caches forget what these runs deleted, and write down which of them are done.

    Raises: Stopped.
    """
    total = Purged()
    for run_id in run_ids:
        result = caches.purge(_deleted_by(run_id))
        total += result
        if not result.failed:
            row = Run.objects.using(journal.home()).get(pk=run_id)
            row.options = {**row.options, _DONE: True}
            row.save(using=journal.home(), update_fields=["options"])
    return total


def _deleted_by(run_id: str) -> Iterator[str]:
    deletions = Change.objects.using(journal.home()).filter(run_id=run_id, kind=ChangeKind.DELETE)
    keys = deletions.filter(state__in=_GONE).order_by("pk").values_list("old", flat=True)
    yield from keys.iterator()
