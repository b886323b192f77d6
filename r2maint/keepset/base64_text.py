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
"""What is looked for when it is not known what begins a key, or that is too short."""
_SHORTEST = 4
"""Characters of base64, or bytes: fewer stand in any text by chance."""
_MAX_CORES = 48
"""Looking for each costs a pass; more are looked for by one slower expression."""
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
        stems = {stem for root in beginnings or () for stem in _stems(root)}
        if not stems or any(len(root.rstrip("/")) < _SHORTEST for root in beginnings or ()):
            stems.add(_URL.encode())
        found = {core for stem in stems for core in _cores(stem)}
        self._cores = sorted(core for core in found if len(core[0]) >= _SHORTEST)
        self._any_core = _expression(core for core, _ in self._cores)

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
        for core, offset in self._cores_in(text):
            at = text.find(core)
            while at >= 0:
                yield max(at - offset, 0)
                at = text.find(core, at + 1)

    def _cores_in(self, text: str) -> Iterable[tuple[str, int]]:
        if len(self._cores) <= _MAX_CORES:
            return self._cores
        starts = set(self._any_core.findall(text))
        return (core for core in self._cores if core[0][:_SHORTEST] in starts)


def _expression(cores: Iterable[str]) -> re.Pattern[str]:
    """Return what finds the first characters of each core, overlapping ones too."""
    by_first: dict[str, set[str]] = {}
    for core in cores:
        by_first.setdefault(core[0], set()).add(re.escape(core[1:_SHORTEST]))
    ways = (f"{re.escape(first)}(?:{'|'.join(sorted(rest))})" for first, rest in by_first.items())
    return re.compile(f"(?=({'|'.join(sorted(ways))}))")


def _stems(root: str) -> Iterator[bytes]:
    """Yield what a key below `root` begins with; of a short root, with what comes after or before.

    The slash may be escaped for JSON or for a URL.
    """
    stem = root.rstrip("/").encode()
    if len(stem) >= _SHORTEST:
        yield stem
        return
    for ending in (b"/", b"%2", b"\\/") if stem else ():
        yield from (start + stem + ending for start in (b"", b"/", b'"'))


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
