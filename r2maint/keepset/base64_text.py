"""Texts inside texts that were packed: base64, as image proxies and caches write it, and sessions.

Reading every word as base64 would take longer than everything else. What begins a key is known,
though, and with it the three ways its bytes can lie in groups of three: these are looked for.
"""

from __future__ import annotations

import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator

from r2maint.database.snapshot import SEPARATOR

_URL = "http"
"""What is looked for when too much, or too little, can begin a key."""
_MAX_BEGINNINGS = 8
_SHORTEST = 4
"""Bytes: fewer leave too few characters of base64 to look for."""
_RUN = re.compile(r"[A-Za-z0-9+/_-]+")
_URL_SAFE = str.maketrans("-_", "+/")
# `signing.dumps(…, compress=True)`: a dot, and the base64 of what zlib begins with. Source:
# https://docs.djangoproject.com/en/5.2/topics/signing/#protecting-complex-data-structures
_COMPRESSED = re.compile(r"\.(eJ[A-Za-z0-9_-]{8,})")
_MAX_UNPACKED = 2**21


class Unpacker:
    """Reads what lies packed in a text and holds one of some beginnings."""

    def __init__(self, beginnings: Iterable[str] | None) -> None:
        """Take what every key begins with one of; None when that is not known."""
        stems = {root.rstrip("/").encode() for root in beginnings or ()}
        if not 0 < len(stems) <= _MAX_BEGINNINGS or min(map(len, stems)) < _SHORTEST:
            stems = {_URL.encode()}
        self._cores = sorted({core for stem in stems for core in _cores(stem)})

    def iter_texts(self, text: str) -> Iterator[str]:
        """Yield each further text; of base64 what follows the beginning that was found."""
        yield from self._iter_base64(text)
        if ".eJ" in text:
            yield from filter(None, (_inflated(found[1]) for found in _COMPRESSED.finditer(text)))

    def _iter_base64(self, text: str) -> Iterator[str]:
        begins = sorted(set(self._iter_groups(text)))
        read: dict[int, int] = {}
        for begin in begins:
            # A longer run that was read in the same groups holds this one.
            if begin < read.get(begin % 4, 0):
                continue
            run = _RUN.match(text, begin)
            if run is not None:
                read[begin % 4] = run.end()
                yield _decoded(run[0])
                if "/" in run[0]:
                    # In a URL a slash ends it.
                    yield _decoded(run[0].partition("/")[0])

    def _iter_groups(self, text: str) -> Iterator[int]:
        """Yield where a group of four characters begins that holds the first ones of a core."""
        for core, offset in self._cores:
            at = text.find(core)
            while at >= 0:
                yield max(at - offset, 0)
                at = text.find(core, at + 1)


def _cores(stem: bytes) -> Iterator[tuple[str, int]]:
    """Yield the characters that base64 is sure to hold where it holds `stem`, and how far into a
    group of four they begin; one for each number of bytes before it."""
    for before, offset in enumerate((0, 2, 3)):
        coded = b64encode(bytes(before) + stem).decode()
        core = coded[offset : (before + len(stem)) * 8 // 6]
        yield core, offset
        yield core.replace("+", "-").replace("/", "_"), offset


def _decoded(run: str) -> str:
    usable = run[:-1] if len(run) % 4 == 1 else run
    data = b64decode(usable.translate(_URL_SAFE) + "=" * (-len(usable) % 4))
    return data.decode("utf-8", "replace").replace(SEPARATOR, " ")


def _inflated(run: str) -> str:
    usable = run[:-1] if len(run) % 4 == 1 else run
    packed = b64decode(usable.translate(_URL_SAFE) + "=" * (-len(usable) % 4))
    try:
        return zlib.decompressobj().decompress(packed, _MAX_UNPACKED).decode("utf-8", "replace")
    except zlib.error:
        return ""
