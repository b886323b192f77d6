"""Addresses inside longer text: where each one stands, what it means, how it is exchanged. Pure.

An address cut short would be another address. So it ends only where no reader goes on (white
space, a quote, a bracket it did not open, the punctuation of a sentence), never begins inside a
longer one, and its path ends in an extension: "/media/my", of "/media/my photo.png", is none.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

from r2maint.keys import Addresses, Kind, Target

Span = tuple[int, int]
"""Where an address begins, and where it has ended."""

_JOINED = r"\w+.\-=/?&#%@~}$\\)"
"""What an address does not begin after: it would be the rest of something longer."""
_CLOSERS = "،؛؟۔«»‹›“”‘’„…。、，：；？！（）「」『』【】"
_INVISIBLE = "\0\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff"
_STOP = rf"\s\"'<>(){{}}\[\]|\\^`{_CLOSERS}{_INVISIBLE}"
_ENTITY = r"&(?!amp;|#0*38;|#x0*26;)(?:[a-z][a-z0-9]*|#[0-9]+|#x[0-9a-f]+);"
"""An HTML entity that is no "&"."""
_OPEN = r"(?:(?:https?:)?//|/)(?=[^\s/])"
_LIST = r"(?:(?<=\.\w\w)|(?<=\.\w\w\w)|(?<=\.\w\w\w\w))[,;](?=(?:https?:)?/)"
"""What parts two addresses of a list without spaces."""
_BODY = (
    rf"(?:[^{_STOP}&,;]|(?!{_ENTITY})&|(?!{_LIST})[,;]"
    rf"|\([^{_STOP}]*\)|\[[^{_STOP}/][^{_STOP}]*\]"
    # The <lang> of "/<lang>/media/a.png": a place in a pattern, so that nothing begins after it.
    rf"|(?<=/)(?:<[^<>/\s]*>|&lt;[^\s/]*?&gt;))+"
)
_BARE = (
    rf"(?:(?<![a-z0-9_+.\-=/?&#%@~}}$\\)])(?=https?:)|(?<![{_JOINED}:])(?=/)"
    rf"|(?<=\ssrc=)|(?<=\shref=)){_OPEN}{_BODY}"
)
_FIRST_OF_MANY = r"\S*\.(?=[0-9]*[a-z])[a-z0-9]{1,8}[.,;:!?]*\s|.*[\s,;|،؛](?:https?:/)?/"
_EXTENSION = r"\.[A-Za-z0-9]{1,8}"
_ONE = re.compile(
    rf"(?!{_FIRST_OF_MANY}){_OPEN}[^?#<>{{}}\"\\|\r\n]*{_EXTENSION}(?:[?#]\S*)?", re.IGNORECASE
)
"""One address with nothing else, which may hold spaces."""
_TOKEN = re.compile(
    rf"(?P<quote>\\{{0,7}}[\"']|&(?:quot|apos|#34|#39|#x22|#x27);)"
    rf"(?P<quoted>{_OPEN}(?:(?!(?P=quote))[^<>{{}}\"\\\r\n])*)(?P=quote)"
    rf"|\(<(?P<angled>{_OPEN}[^<>\r\n]*)>"
    rf"|(?P<bare>{_BARE})",
    re.IGNORECASE,
)
_NAMED = re.compile(rf"(?!.*(?:<|&lt;))[^?#]*{_EXTENSION}(?:[?#].*)?")
_PUNCTUATION = ".,;:!?*"
_ANY_ENTITY = re.compile(r"&#?\w+;")


def iter_spans(text: str) -> Iterator[Span]:
    """Yield where the addresses of any place stand in a text: sites, media, what they may be.

    In the order of the text; a text that is one address as a whole has one.
    """
    start = len(text) - len(text.lstrip())
    if _ONE.fullmatch(text.strip()):
        yield start, len(text.rstrip())
        return
    position = 0
    while token := _TOKEN.search(text, position):
        position = token.end()
        name = str(token.lastgroup)
        if name == "bare":
            address = token[name].rstrip(_PUNCTUATION)
            if _NAMED.fullmatch(address):
                yield token.start(), token.start() + len(address)
        elif _ONE.fullmatch(token[name]):
            yield token.span(name)
        else:
            position = token.start(name)


def iter_addresses(text: str, addresses: Addresses) -> Iterator[tuple[str, Target]]:
    """Yield the addresses in a text that mean a local file or an object, as they stand there."""
    for start, end in iter_spans(text):
        target = locate(text[start:end], addresses)
        if target is not None:
            yield text[start:end], target


def contains(text: str, address: str) -> bool:
    """Tell whether an address stands in a text, spelled exactly so."""
    return any(text[start:end] == address for start, end in iter_spans(text))


def locate(address: str, addresses: Addresses) -> Target | None:
    """Return what an address that stands in a text means; None for one of another place.

    In HTML "&amp;" is an "&"; where the text is none, the other reading is among the spellings.
    """
    plain = _ANY_ENTITY.sub(lambda found: html.unescape(found[0]), address)
    target = addresses.locate(plain)
    if target is None or target.kind is Kind.EXTERNAL or target.key.endswith("/"):
        return None
    raw = addresses.locate(address) if plain != address else None
    if raw is None or raw.root != target.root:
        return target
    others = dict.fromkeys((*target.spellings, raw.key, *raw.spellings))
    return target._replace(spellings=tuple(key for key in others if key != target.key))


class Passage:
    """The addresses of some texts, while several are exchanged one after the other.

    What was exchanged once is not exchanged again.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._places = [(at, span) for at, text in enumerate(texts) for span in iter_spans(text)]
        self._now = [texts[at][start:end] for at, (start, end) in self._places]
        self._exchanged: set[int] = set()
        self._unclear: set[str] = set()

    def exchange(self, old: str, new: str, made: Sequence[bool] = ()) -> list[bool]:
        """Exchange every `old`, or those that `made` says; return what `made` is for the way back.

        That is, of every `new` now in the texts, whether this call put it there. [] when there was
        nothing to exchange, or when `old` is there so often that `made` tells nothing any more.
        """
        meant = self._meant(old, new, made)
        for place in meant:
            self._now[place] = new
        self._exchanged |= meant
        places = [place for place, address in enumerate(self._now) if address == new]
        return [place in meant for place in places] if meant else []

    def is_there(self, old: str, new: str) -> bool:
        """Tell, when nothing was to be exchanged, whether that is because it has been before."""
        return new in self._now and old not in self._unclear

    def _meant(self, old: str, new: str, made: Sequence[bool]) -> set[int]:
        places = [
            place
            for place, address in enumerate(self._now)
            if address == old and place not in self._exchanged
        ]
        if old in self._unclear:
            return set()
        if not made or (all(made) and len(places) <= len(made)):
            return set(places)
        if len(places) == len(made):
            return {place for place, mine in zip(places, made, strict=True) if mine}
        if new not in self._now or len(places) != list(made).count(False):
            self._unclear.add(old)
        return set()

    def cuts(self) -> list[list[tuple[int, int, str]]]:
        """Return, for each text, what is to stand where: (start, end, address)."""
        found: list[list[tuple[int, int, str]]] = [[] for _ in self._texts]
        for place in sorted(self._exchanged):
            at, (start, end) = self._places[place]
            found[at].append((start, end, self._now[place]))
        return found

    def texts(self) -> list[str]:
        """Return the texts as they are now."""
        return [cut(text, cuts) for text, cuts in zip(self._texts, self.cuts(), strict=True)]

    def can_be_read_back(self) -> bool:
        """Tell whether the addresses written stand in the texts as addresses of their own."""
        return Passage(self.texts())._now == self._now


def cut(text: str, cuts: Sequence[tuple[int, int, str]]) -> str:
    """Return the text with its parts exchanged; `cuts` in order of their start."""
    pieces: list[str] = []
    copied = 0
    for start, end, new in cuts:
        pieces += text[copied:start], new
        copied = end
    return "".join([*pieces, text[copied:]])
