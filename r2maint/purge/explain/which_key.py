"""Which key somebody means who asks about an object, and what else is spelled like it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any
from unicodedata import normalize

from r2maint.bucket import Bucket, StoredObject
from r2maint.bucket.find import find_stored
from r2maint.errors import UsageError
from r2maint.keys import Addresses, identity, quote_key, redact
from r2maint.keys.text import URL, readings, unescaped

_MAX_PAGES = 5
"""Of the key's directory, in which other spellings of case are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked about, and the key it was taken for."""

    text: str
    """Without credentials and signatures."""
    key: str

    @property
    def remark(self) -> str:
        """How the text was understood; "" for an exact key."""
        return "" if self.text == self.key else f"{self.text!r} was taken for the key {self.key!r}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """An object whose key a person may take for the one asked about."""

    stored: StoredObject
    differs: str
    """ "unicode" (composed or not: one object to R2), "case" or "encoding"."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "key": self.stored.key,
            "differs": self.differs,
            "bytes": self.stored.size,
            "modified_at": self.stored.modified_at,
            "etag": self.stored.etag,
        }


def resolve(
    text: str,
    addresses: Addresses,
    bucket: Bucket,
    is_known: Callable[[Iterable[str]], set[str]],
) -> Asked:
    """Return the key that a key, a URL or a path means: one in the bucket, else one of a run's.

    The text itself comes first, then what it is percent-encoded from or the address of. One HEAD
    for each. `is_known` tells which keys runs wrote down.
    Raises: UsageError for a URL of no file.
    """
    keys = list(dict.fromkeys(filter(None, _candidates(text, addresses))))
    if not keys:
        raise UsageError(f"--explain names no key: {redact(text)!r}.", "Give a key or its URL.")
    stored = find_stored(bucket, keys).objects
    known = stored or is_known(keys)
    # A text with "%" that is no key anybody knows is rather an encoded one.
    likeliest = keys[1] if "%" in text and keys[0] == text and len(keys) > 1 else keys[0]
    return Asked(text=redact(text), key=next((key for key in keys if key in known), likeliest))


def _candidates(text: str, addresses: Addresses) -> Iterator[str]:
    url = URL.match(text.strip())
    if url is None:
        yield text
    target = addresses.locate(text)
    if target is not None and target.key:
        yield from (target.key, *target.spellings)
    elif url or text.startswith("/"):
        # A purge finds a key by its path, under any host.
        path = text.strip()[url.end() if url else 0 :]
        starts = (at + 1 for at, letter in enumerate(path) if letter == "/")
        yield from (key for at in starts for key in readings(path[at:]))
    else:
        yield from readings(text.strip())


def find_spellings(key: str, bucket: Bucket) -> tuple[Spelling, ...]:
    """Return other objects that differ from `key` in case, Unicode form or encoding.

    A dozen HEADs, and five pages of the key's directory at most.
    """
    found = find_stored(bucket, _variants(key)).objects.values()
    folded = unescaped(key).casefold()
    pages = islice(bucket.list_pages(key[: key.rfind("/") + 1]), _MAX_PAGES)
    beside = (item for page in pages for item in page if unescaped(item.key).casefold() == folded)
    others = {item.key: item for item in (*found, *beside) if item.key != key}
    return tuple(
        Spelling(stored=item, differs=_difference(item.key, key)) for item in others.values()
    )


def _variants(key: str) -> set[str]:
    plain = unescaped(key)
    stem, dot, extension = key.rpartition(".")
    found = {normalize(form, key) for form in ("NFC", "NFD")}
    found |= {plain, quote_key(key), key.lower(), key.upper(), key.lstrip("/")}
    found |= {stem + dot + extension.lower(), stem + dot + extension.upper()}
    found |= {key.replace("+", " "), key.replace(" ", "+")}
    return found - {key, ""}


def _difference(other: str, key: str) -> str:
    if identity(other) == identity(key):
        return "unicode"
    return "case" if identity(other).casefold() == identity(key).casefold() else "encoding"
