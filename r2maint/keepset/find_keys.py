"""Finds the keys that a text names, in any spelling, under any host. Pure; errs towards finding.

Which keys exist is known beforehand, so a text is only searched for them: a path that means no
object is passed over, and a key is found whatever stands before it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from r2maint import keys
from r2maint.keepset.base64_text import Unpacker
from r2maint.keepset.spellings import iter_guesses, iter_spellings, undos_for
from r2maint.keys.text import identity, redact

MAX_ROOTS = 64

_STOPS = r"""\s\x00-\x1f\x7f"'<>()\[\]{}|\\^`,;?#&"""
_STOP = re.compile(f"[{_STOPS}]")
_TOKEN = re.compile(f"[^{_STOPS}]+")
# Where a key may end before its token does: at punctuation, and before any character that a URL
# would have escaped, such as a letter of the sentence around it.
_EDGE = re.compile(r"[\W_]|[^\x00-\x7f]")
_START = re.compile(
    r"(?<=[\W_])|(?=[\W_])|(?<=[\x00-\x7f])(?=[^\x00-\x7f])|(?<=[^\x00-\x7f])(?=[\x00-\x7f])"
)
_PUNCTUATION = re.compile(r"[\W_]+")
_FILE = re.compile(r"[^/%]\.[0-9A-Za-z]{1,8}")
# A key is at most 1,024 bytes (https://developers.cloudflare.com/r2/platform/limits/).
_LONGEST = 1024
# More than this many keys that begin with a space or bracket are kept without being looked for.
_MAX_ODD = 1000
_BEGINNING = 24
"""Characters that tell most keys apart; with a shorter key among them, none are passed over."""


class KeyFilter:
    """A Bloom filter of strings: never wrong about a string it holds, rarely about another.

    Four bytes a string and 0.4% false answers; 32 MiB at most, which is 0.5% at ten million.
    """

    def __init__(self, expected: int) -> None:
        """Make room for about so many strings; more only cost false answers."""
        bits = min(max(13, (expected * 32).bit_length()), 28)
        self._mask = (1 << bits) - 1
        self._bits = bytearray(1 << (bits - 3))

    def update(self, strings: Iterable[str]) -> None:
        bits, mask = self._bits, self._mask
        for string in strings:
            number = hash(string)
            first, second = number & mask, (number >> 32) & mask
            bits[first >> 3] |= 1 << (first & 7)
            bits[second >> 3] |= 1 << (second & 7)

    def __contains__(self, string: str) -> bool:
        bits, number = self._bits, hash(string)
        first = number & self._mask
        if not bits[first >> 3] >> (first & 7) & 1:
            return False
        second = (number >> 32) & self._mask
        return bool(bits[second >> 3] >> (second & 7) & 1)


@dataclass(slots=True)
class FoundNames:
    """What some text names."""

    names: set[str] = field(default_factory=set)
    """Identities of keys, with a few strings that are no key."""
    absent: set[str] = field(default_factory=set)
    """Paths of files below the roots that mean no object."""


class KeyFinder:
    """Looks for a set of keys in texts.

    `roots` are the beginnings one of which every key has ("submissions/"); None when they are too
    many, which costs a closer look at every word.
    """

    def __init__(
        self,
        names: Iterable[Sequence[str]],
        roots: tuple[str, ...] | None,
        *,
        expected: int = 1000,
        is_key: Callable[[str], bool] = lambda name: False,
        absent: bool = True,
    ) -> None:
        """Take the identities of the keys, in batches; `expected` is about how many there are.

        `is_key` tells for certain whether an identity is a key's; the finder itself may be wrong,
        and asks where that decides whether another key is named. Without `absent` nobody asks for
        paths that mean no object, and what names none of the keys is passed over faster.
        """
        self._is_key = is_key
        self._beginnings = None if absent or not roots else KeyFilter(expected)
        self._filter = KeyFilter(expected)
        self._roots = sorted(roots or (), key=len, reverse=True)
        any_root = "|".join(map(re.escape, self._roots))
        self._root = re.compile(any_root) if roots else None
        self._token = re.compile(f"(?:{any_root})[^{_STOPS}]*") if roots else _TOKEN
        self._unpacker = Unpacker(roots)
        self._cut = False
        self._has_bare = False
        self._odd: list[str] = []
        self.certain: set[str] = set()
        """Keys that could not be told from text, and count as named."""
        self.under: dict[str, KeyFinder] = {}
        """Location of a storage -> finder of the names that files have below it."""
        characters: set[str] = set()
        for batch in names:
            self._add(batch, characters)
        self._undos = undos_for(characters)

    def _add(self, batch: Sequence[str], characters: set[str]) -> None:
        self._filter.update(batch)
        # A key without an extension: nothing but its last character tells where it ends.
        self._has_bare = self._has_bare or any(
            "." not in name[name.rfind("/") + 1 :] for name in batch
        )
        self._add_beginnings(batch)
        # One search over the whole batch: hardly any key of most buckets has a stop in it.
        if _STOP.search("".join(batch)):
            for name in batch:
                if _STOP.search(name):
                    characters.update(name)
                    self._add_cut(name)

    def _add_beginnings(self, batch: Sequence[str]) -> None:
        if self._beginnings is not None:
            self._beginnings.update(name[:_BEGINNING] for name in batch)
            if min(map(len, batch), default=_BEGINNING) < _BEGINNING:
                self._beginnings = None

    def _is_none(self, token: str) -> bool:
        """Tell whether surely no key begins in this token."""
        beginnings = self._beginnings
        if beginnings is None or token[:_BEGINNING] in beginnings:
            return False
        return self._root is not None and not self._root.search(token, 1)

    def _add_cut(self, name: str) -> None:
        root = next((root for root in self._roots if name.startswith(root)), "")
        heads = [name[: stop.start()] for stop in _STOP.finditer(name, len(root))]
        if "\0" in name or (heads and not heads[0] and len(self._odd) >= _MAX_ODD):
            self.certain.add(name)
        elif heads and not heads[0]:
            self._odd.append(name)
        self._filter.update(map(_head, heads))
        self._cut = self._cut or bool(heads)

    def find(self, text: str) -> FoundNames:
        """Return what `text` (cells separated by NUL) names."""
        found, guessed = FoundNames(), FoundNames()
        for spelling in iter_spellings(text, self._undos):
            self._scan_composed(spelling, found)
            # Most backslashes are escapes, and a key may hold "//": what a guess makes of a text
            # may name a key, but nothing is absent because of it.
            for guess in iter_guesses(spelling):
                self._scan_composed(guess, guessed)
        for packed in self._unpacker.iter_texts(text):
            for spelling in iter_spellings(packed, self._undos):
                self._scan_composed(spelling, guessed)
        found.names |= guessed.names
        for location, finder in self.under.items():
            found.names |= {keys.join(location, name) for name in finder.find(text).names}
        return found

    def _scan_composed(self, text: str, found: FoundNames) -> None:
        self._scan(text, found)
        if not text.isascii() and not unicodedata.is_normalized("NFC", text):
            self._scan(keys.identity(text), found)

    def _scan(self, text: str, found: FoundNames) -> None:
        found.names.update(name for name in self._odd if name in text)
        # Most texts hold no root at all, and looking for that alone is ten times faster.
        if self._root and not any(root in text for root in self._roots):
            return
        if self._cut:
            self._scan_on(text, found)
        else:
            for token in set(self._token.findall(text)):
                if self._is_none(token):
                    continue
                # The usual case, a whole key in which no other begins, is decided here.
                usual = token in self._filter and not _has_loose_end(token)
                if usual and self._root and not self._root.search(token, 1):
                    found.names.add(token)
                    self._add_doubted_ends(token, found)
                else:
                    self._judge(token, found)

    def _scan_on(self, text: str, found: FoundNames) -> None:
        """Scan for keys that may go on behind the end of a token."""
        judged: dict[str, tuple[int, ...]] = {}
        for match in self._token.finditer(text):
            token = match[0]
            if token not in judged:
                judged[token] = tuple(self._judge(token, found))
            for start in judged[token]:
                self._follow(text, match.start() + start, match.end(), found)

    def _judge(self, token: str, found: FoundNames) -> list[int]:
        """Add the keys in one token; return where in it a key begins that goes on behind it."""
        heads = []
        for start in self._starts(token):
            # One character more than a key may have, so that what is cut off here is none.
            suffix = token[start : start + _LONGEST + 1]
            named = suffix in self._filter
            if named:
                found.names.add(suffix)
            goes_on = self._cut and _head(suffix) in self._filter
            if goes_on:
                heads.append(start)
            if named and not _has_loose_end(suffix):
                self._add_doubted_ends(suffix, found)
            else:
                named = self._add_ends(suffix, found) or named
            if not (named or goes_on) and self._is_file(suffix):
                found.absent.add(suffix)
        return heads

    def _starts(self, token: str) -> Iterator[int]:
        yield 0
        if self._root is None:
            yield from (
                start for m in _START.finditer(token, 1) if (start := m.start()) < len(token)
            )
            return
        match = self._root.search(token, 1)
        while match:
            yield match.start()
            match = self._root.search(token, match.start() + 1)

    def _add_ends(self, token: str, found: FoundNames, first: int = 1) -> bool:
        """Add the keys that `token` begins with and that may end at `first` or behind it."""
        added = False
        for edge in _EDGE.finditer(token, first):
            name = token[: edge.start()]
            if name in self._filter and _may_end(token, edge.start()):
                found.names.add(name)
                added = True
        return added

    def _add_doubted_ends(self, token: str, found: FoundNames) -> None:
        """Add the keys that what seems a key begins with, if it is none."""
        ends = FoundNames()
        first = 1 if self._has_bare else _first_end(token)
        if self._add_ends(token, ends, first) and not self._is_key(token):
            found.names |= ends.names

    def _is_file(self, token: str) -> bool:
        """Tell whether `token` looks like the whole path of a file below a root.

        A page has no extension, and a path with escapes is looked at again without them.
        """
        if self._root is None or len(token) > _LONGEST or "%" in token or "+" in token:
            return False
        if keys.identity(token) in self._filter:
            return False
        return bool(_FILE.fullmatch(token, max(0, token.rfind(".") - 1)))

    def _follow(self, text: str, start: int, end: int, found: FoundNames) -> None:
        """Add the keys that begin at `start` and go on behind a stop at `end`."""
        limit = min(len(text), start + _LONGEST)
        while end < limit and _head(text[start:end]) in self._filter:
            stop = _STOP.search(text, end + 1, limit)
            last = stop.start() if stop else limit
            for cut in range(end + 1, last + 1):
                if text[start:cut] in self._filter:
                    found.names.add(text[start:cut])
            end = last


def _head(text: str) -> str:
    # Beginnings share the filter with whole keys, told apart by a character no key has.
    return "\0" + text


def _has_loose_end(token: str) -> bool:
    """Tell whether the last character may be of the sentence, though a key ends with it."""
    return not (token[-1].isascii() and token[-1].isalnum())


def _first_end(token: str) -> int:
    """Return where a key with an extension may end first, in a token that ends as one."""
    return token.find(".") + 1 or len(token) if token.isascii() else 1


def _may_end(token: str, edge: int) -> bool:
    """Tell whether the key before `edge` may end there though the token goes on.

    "a.webp-old" may mean "a.webp", and "uploads/1:80" may mean "uploads/1"; a "/" alone parts more
    than it ends: "submissions/1/icon" does not mean an object "submissions/1".
    """
    if token[edge] != "/" or _PUNCTUATION.fullmatch(token, edge):
        return True
    return "." in token[token.rfind("/", 0, edge) + 1 : edge]


_REST = r"//[^\s\"'<>`?#\\]+)$"
# The last address that begins before the key: another one may stand right before it.
_ADDRESSES = tuple(
    re.compile(f".*{start}{_REST}", re.IGNORECASE | re.S) for start in ("((?:https?|s3):", "(")
)
_LONGEST_TOKEN = 2048


class NamingToken(NamedTuple):
    """How a text names a key."""

    text: str
    """Without credentials, escapes undone; "" where only the whole of several cells names it."""
    shape: str
    """ "url", "path" (with a "/" before it) or "name"."""
    is_escaped: bool
    """It is written with escapes: percent, HTML, JSON."""


def token_of(text: str, name: str) -> NamingToken:
    """Return what in `text` names the key whose identity is `name`: from the host to its end.

    Neither the query nor anything around it is part of it.
    """
    bounded = re.compile(rf"(?<![0-9A-Za-z]){re.escape(name)}(?![0-9A-Za-z])")
    for number, spelled in enumerate(_views(text)):
        if name in spelled:
            match = bounded.search(spelled)
            start = match.start() if match else spelled.index(name)
            return _token(spelled[max(0, start - _LONGEST_TOKEN) : start], name, bool(number))
    return NamingToken("", "name", True)


def _views(text: str) -> Iterator[str]:
    for spelling in iter_spellings(text):
        yield identity(spelling)
        yield from map(identity, iter_guesses(spelling))


def _token(before: str, name: str, is_escaped: bool) -> NamingToken:
    address = next(filter(None, (each.match(before) for each in _ADDRESSES)), None)
    if address and before.endswith("/"):
        return NamingToken(redact(address[1] + name), "url", is_escaped)
    if before.endswith("/"):
        return NamingToken(f"/{name}", "path", is_escaped)
    return NamingToken(name, "name", is_escaped)
