"""The files below a directory that a glob means, found by a walk that passes over nothing unseen.

`Path.glob` says nothing of a directory it may not read, of a link to a volume that is not mounted,
and does not follow links below "**". Here each of them refuses or is followed.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import stat_result
from pathlib import Path

from r2maint.errors import ConfigError
from r2maint.keys import matches_glob

_ANYWHERE = "**"
_WILD = frozenset("*?[")


def matching_files(base: Path, pattern: str) -> list[Path]:
    """Return the files that a glob means, relative to `base` unless absolute, in order.

    "**" is any number of directories, links to directories among them; hidden names match like
    others. A file that several links lead to may be there once.
    Raises: ConfigError, with the path, for what matches and cannot be read.
    """
    anchor = Path(pattern).anchor
    parts = Path(pattern.removeprefix(anchor)).parts
    return sorted(set(_FileWalk(parts).files(Path(anchor or base), 0)))


@dataclass(slots=True)
class _FileWalk:
    """One walk along the segments of a pattern."""

    parts: tuple[str, ...]
    _seen: set[tuple[int, int, int]] = field(default_factory=set)
    """Device and inode of a directory, and the segment it was searched for: links make loops."""

    def files(self, base: Path, first: int) -> Iterator[Path]:
        """Yield the files below `base` that the segments from `first` on mean."""
        todo = [(base, first)]
        while todo:
            directory, at = todo.pop()
            if at >= len(self.parts) or not self._is_new(directory, at):
                continue
            is_anywhere = self.parts[at] == _ANYWHERE
            if is_anywhere:
                todo.append((directory, at + 1))
            is_last = at + 1 >= len(self.parts)
            for path in _entries(directory, self.parts[at]):
                found = _status(path)
                if found is not None and stat.S_ISDIR(found.st_mode):
                    todo.append((path, at if is_anywhere else at + 1))
                elif found is not None and is_last:
                    yield _require_file(path, found)

    def _is_new(self, directory: Path, at: int) -> bool:
        found = _status(directory)
        if found is None or not stat.S_ISDIR(found.st_mode):
            return False
        place = (found.st_dev, found.st_ino, at)
        is_new = place not in self._seen
        self._seen.add(place)
        return is_new


def _entries(directory: Path, part: str) -> list[Path]:
    """Return what in a directory a segment means."""
    if part != _ANYWHERE and _WILD.isdisjoint(part):
        return [directory / part]
    try:
        return [path for path in directory.iterdir() if _is_meant(path.name, part)]
    except OSError as error:
        raise _unreadable(directory, error) from error


def _is_meant(name: str, part: str) -> bool:
    return part == _ANYWHERE or matches_glob(name, part)


def _status(path: Path) -> stat_result | None:
    """Return what a path leads to, None where there is nothing at all. Raises: ConfigError."""
    try:
        return path.stat()
    except OSError as error:
        is_absent = isinstance(error, FileNotFoundError | NotADirectoryError)
        if is_absent and not path.is_symlink():
            return None
        raise _unreadable(path, error) from error


def _require_file(path: Path, found: stat_result) -> Path:
    if stat.S_ISREG(found.st_mode):
        return path
    raise ConfigError(
        f"A match of EXTRA_REFERENCES['files'] is no regular file: {str(path)!r}.",
        "Move it away, or write a pattern that leaves it out.",
    )


def _unreadable(path: Path, error: OSError) -> ConfigError:
    reason = "a link to nothing" if isinstance(error, FileNotFoundError) else error.strerror
    return ConfigError(
        f"A path of EXTRA_REFERENCES['files'] cannot be read: {str(path)!r} ({reason}).",
        "Make it readable, take it away, or write a pattern that leaves it out.",
    )
