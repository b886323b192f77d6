"""What EXTRA_REFERENCES names: files, callables and objects, as texts.

Whatever is absent or cannot be read as a whole is an error.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from django.utils.module_loading import import_string

from r2maint import keys
from r2maint.bucket import Bucket
from r2maint.conf import Config
from r2maint.database.snapshot import CHUNK, OVERLAP, SEPARATOR
from r2maint.errors import ConfigError
from r2maint.keepset.walk_files import matching_files
from r2maint.scratch.batches import batched

Piece = tuple[str, str, int]
"""Source, text, and how many files, strings or objects it is."""

_BATCH = 1000
_UNPACKERS: Mapping[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}
_PACKED = (b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!")
"""How archives and zstd begin, which the standard library cannot stream as text."""
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_RELATIVE = tuple(
    re.compile(pattern, re.M)
    for pattern in (r"\"([^\"\n]+)\"", r"'([^'\n]+)'", r"^([^\n#]+?)\s*$", r"([^\s\"'<>()=,;]+)")
)
"""What may be one name: a text in quotes, a line of a playlist, a word."""
_BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError)


def iter_files(config: Config) -> Iterator[Piece]:
    """Yield what the files hold. Raises: ConfigError."""
    for pattern in config.extra_references.files:
        source = f"file:{pattern}"
        yield source, "", 0
        files = matching_files(config.base_dir, pattern)
        if not files:
            raise ConfigError(
                f"EXTRA_REFERENCES['files'] matches no file: {pattern!r}.",
                "Run where these files are, correct the pattern (relative to BASE_DIR), or take"
                " it out.",
            )
        for path in files:
            for text in _file_pieces(path):
                yield source, text, 1


@contextmanager
def open_file(path: Path) -> Iterator[TextIO]:
    """Give a file as text, unpacked and decoded. Raises: ConfigError, also while it is read."""
    try:
        with path.open("rb") as file:
            yield _as_file(file, f"A file of EXTRA_REFERENCES: {str(path)!r}.")
    except _BROKEN as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(
            f"A file of EXTRA_REFERENCES cannot be read: {str(path)!r} ({reason}).",
            "Make it readable, or take it out.",
        ) from error


def _file_pieces(path: Path) -> Iterator[str]:
    with open_file(path) as text:
        yield from _pieces(text)


def _pieces(text: TextIO) -> Iterator[str]:
    """Yield a text in pieces that overlap."""
    carried = ""
    while read := text.read(CHUNK):
        yield carried + read
        carried = read[-OVERLAP:]


def _as_file(file: BinaryIO, what: str) -> TextIO:
    unpacked = _unpacked(file, what)
    encoding = _encoding(unpacked)
    return io.TextIOWrapper(unpacked, encoding=encoding, errors="replace", newline="")


def _unpacked(file: BinaryIO, what: str) -> Any:
    start = file.read(8)
    file.seek(0)
    if start.startswith(_PACKED):
        raise ConfigError(f"An archive cannot be read for references. {what}", "Unpack it.")
    for magic, unpack in _UNPACKERS.items():
        if start.startswith(magic):
            return unpack(file)
    return file


def _encoding(file: BinaryIO) -> str:
    start = file.read(4)
    file.seek(0)
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")


def iter_callables(config: Config) -> Iterator[Piece]:
    """Yield what the callables return. Raises: ConfigError when one fails, also halfway."""
    for name in config.extra_references.callables:
        yield f"callable:{name}", "", 0
        for batch in batched(_called(name), _BATCH):
            yield f"callable:{name}", SEPARATOR.join(batch), len(batch)


def _called(name: str) -> Iterator[str]:
    try:
        found = import_string(name)()
        # One text is an iterable of letters, and a mapping one of its keys alone.
        is_one = isinstance(found, str | bytes | Mapping)
        yield from map(_as_text, (found,) if is_one else found)
    except Exception as error:
        raise ConfigError(
            f"A callable of EXTRA_REFERENCES failed: {name} ({type(error).__name__}).",
            "Repair it, or take it out.",
        ) from error


def _as_text(given: object) -> str:
    return given.decode("utf-8", "replace") if isinstance(given, bytes) else str(given)


def iter_objects(
    config: Config, bucket: Bucket, object_keys: Callable[[], Iterable[str]]
) -> Iterator[Piece]:
    """Yield what the objects hold, and what names in them mean relative to each.

    Raises: ConfigError where a pattern matches none, BucketError where one cannot be fetched.
    """
    missing = dict.fromkeys(config.extra_references.objects, True)
    for pattern in missing:
        yield f"object:{pattern}", "", 0
    for pattern, _, texts in iter_object_texts(config, bucket, object_keys() if missing else ()):
        missing[pattern] = False
        yield f"object:{pattern}", "", 1
        yield from ((f"object:{pattern}", text, 0) for text in texts)
    for pattern in (pattern for pattern, is_missing in missing.items() if is_missing):
        raise ConfigError(
            f"EXTRA_REFERENCES['objects'] matches no object: {pattern!r}.",
            "Correct the pattern, or take it out.",
        )


def iter_object_texts(
    config: Config, bucket: Bucket, object_keys: Iterable[str]
) -> Iterator[tuple[str, str, Iterator[str]]]:
    """Yield (pattern, key, texts) of those of some objects that a pattern means.

    Raises: BucketError where one cannot be fetched; ConfigError, while its texts are read, where it
    cannot be unpacked.
    """
    wanted = _wanted(config.extra_references.objects, object_keys)
    for batch in batched(wanted, _BATCH):
        results = bucket.get_many(key for _, key in batch)
        for (pattern, key), result in zip(batch, results, strict=True):
            if result.error is not None:
                raise result.error
            assert result.value is not None
            yield pattern, key, _object_texts(key, result.value.body)


def _object_texts(key: str, body: bytes) -> Iterator[str]:
    for text in _object_pieces(body, f"An object of EXTRA_REFERENCES: {key!r}."):
        yield text
        yield relative_names(text, key)


def _object_pieces(body: bytes, what: str) -> Iterator[str]:
    try:
        yield from _pieces(_as_file(io.BytesIO(body), what))
    except _BROKEN as error:
        raise ConfigError(f"It cannot be unpacked. {what}", "Repair it, or take it out.") from error


def _wanted(patterns: Iterable[str], object_keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    return (
        (pattern, key)
        for key in object_keys
        for pattern in patterns
        if keys.matches_glob(key, pattern)
    )


def relative_names(text: str, key: str) -> str:
    """Return what the names in an object's text mean relative to it: segments of a playlist."""
    directory = key.rpartition("/")[0]
    if not directory:
        return ""
    found = (match[1].replace("\\/", "/") for each in _RELATIVE for match in each.finditer(text))
    names = (name for name in dict.fromkeys(found) if "://" not in name)
    return SEPARATOR.join(f"/{directory}/{name}" for name in names if not name.startswith("/"))
