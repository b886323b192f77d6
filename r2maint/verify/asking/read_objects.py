"""Level `content` where no public URL is: the bytes come out of the bucket itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from r2maint.bucket import Bucket
from r2maint.bucket.protocol import Download, Result, StoredObject
from r2maint.control import Control
from r2maint.errors import NoSuchKey
from r2maint.scratch.batches import batched
from r2maint.verify.asking.prober import HELD_BYTES
from r2maint.verify.result import FINDING_BYTES, Finding
from r2maint.verify.verdicts.by_content import WHOLE_BYTES, differs, judge_body
from r2maint.verify.verdicts.by_http import UrlVerdict, is_encoded
from r2maint.verify.verdicts.outcomes import RUN_AGAIN, UPLOAD_AGAIN, Outcome

_MOST_OBJECTS = 256
_BATCH = 512
_Group = tuple[StoredObject | None, list[Finding]]


def read_stored(
    findings: Iterable[Finding], bucket: Bucket, *, control: Control
) -> Iterator[Finding]:
    """Yield the findings with what the bytes of their objects are. One Class B request an object.

    Larger objects than `WHOLE_BYTES` are left as the listing has them.
    """
    tracked = control.track(findings, "Reading objects", unit="reference")
    verdicts: dict[str, UrlVerdict] = {}
    for portion in _portions(_groups(tracked)):
        objects = {stored.key: stored for stored, _ in portion if stored is not None}
        # The last object may have more findings than one portion takes.
        verdicts = {key: verdicts[key] for key in objects if key in verdicts}
        wanted = [key for key in objects if key not in verdicts]
        verdicts |= {
            each.request: _judge(each, objects[each.request]) for each in bucket.get_many(wanted)
        }
        for stored, group in portion:
            verdict = verdicts[stored.key] if stored is not None else None
            yield from group if verdict is None else (_with(each, verdict) for each in group)


def _groups(findings: Iterable[Finding]) -> Iterator[_Group]:
    """Yield each object that is to be read with its findings, a few hundred at a time."""
    for stored, group in groupby(findings, key=_to_read):
        yield from ((stored, batch) for batch in batched(group, _BATCH))


def _to_read(finding: Finding) -> StoredObject | None:
    stored = finding.stored
    is_fit = stored is not None and stored.size <= WHOLE_BYTES
    return stored if is_fit and finding.outcome is Outcome.OK else None


def _portions(groups: Iterable[_Group]) -> Iterator[list[_Group]]:
    """Yield as much at once as may be in memory."""
    portion: list[_Group] = []
    size = 0
    for group in groups:
        more = FINDING_BYTES * len(group[1]) + (group[0].size if group[0] is not None else 0)
        if portion and (size + more > HELD_BYTES or len(portion) >= _MOST_OBJECTS):
            yield portion
            portion, size = [], 0
        portion.append(group)
        size += more
    if portion:
        yield portion


def _judge(found: Result[str, Download], stored: StoredObject) -> UrlVerdict:
    if isinstance(found.error, NoSuchKey):
        return UrlVerdict(
            Outcome.MISSING, detail="the object was deleted meanwhile", advice=UPLOAD_AGAIN
        )
    if found.value is None:
        return UrlVerdict(
            Outcome.UNSURE, detail="the bucket gave no answer about it", advice=RUN_AGAIN
        )
    if found.value.info.etag != stored.etag:
        return UrlVerdict(
            Outcome.UNSURE, detail="the object was replaced meanwhile", advice=RUN_AGAIN
        )
    if detail := differs(found.value.body, stored):
        return UrlVerdict(Outcome.CORRUPT, detail=detail, advice=UPLOAD_AGAIN)
    told = found.value.info.headers
    if is_encoded({"content-encoding": told.content_encoding}):
        return UrlVerdict(Outcome.OK)
    body, header = found.value.body, told.content_type
    return judge_body(body, header=header, url="", stored=stored, is_whole=True)


def _with(finding: Finding, verdict: UrlVerdict) -> Finding:
    outcome, _, detail, advice = verdict
    return finding._replace(outcome=outcome, detail=detail, advice=advice)
