from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from r2maint.errors import ConfigError
from r2maint.keepset.walk_files import matching_files


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    for name in ("src/a.ts", "src/b/c.ts", "src/b/.d/e.ts", "src/b/f.js", "src/[id]/g.ts"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    yield tmp_path
    (tmp_path / "src" / "b").chmod(0o755)


def found(tree: Path, pattern: str) -> list[str]:
    return [path.relative_to(tree).as_posix() for path in matching_files(tree, pattern)]


@pytest.mark.parametrize(
    "pattern",
    [
        "src/**/*.ts",
        "src/*.ts",
        "src/*/*",
        "**/*.js",
        "src/b/c.ts",
        "*/b/?.ts",
        "./src/**/e.ts",
        "src/**/b/**/*.ts",
        "nothing/*.ts",
        "src/a.ts/*",
        "src/../src/*.ts",
        "**/[ce].ts",
    ],
)
def test_a_pattern_means_the_files_that_pathlib_finds(tree, pattern):
    expected = {path.resolve() for path in tree.glob(pattern) if path.is_file()}
    assert {path.resolve() for path in matching_files(tree, pattern)} == expected
    absolute = matching_files(Path("/nowhere"), f"{tree}/{pattern}")
    assert {path.resolve() for path in absolute} == expected


def test_brackets_of_a_directory_are_found(tree):
    assert found(tree, "src/[id]/*.ts") == ["src/[id]/g.ts"]


def test_two_stars_at_the_end_are_all_files(tree):
    assert len(found(tree, "src/**")) == 5


def test_a_link_to_a_directory_is_followed_and_a_loop_ends(tree):
    (tree / "shared").mkdir()
    (tree / "shared" / "h.ts").write_text("h")
    (tree / "src" / "shared").symlink_to(tree / "shared")
    (tree / "shared" / "back").symlink_to(tree / "src")
    (tree / "src" / "i.ts").symlink_to(tree / "shared" / "h.ts")
    assert {"src/shared/h.ts", "src/a.ts", "src/i.ts"} <= set(found(tree, "src/**/*.ts"))


@pytest.mark.parametrize("name", ["src/lost.ts", "src/b/volume"])
@pytest.mark.parametrize("target", ["/not/mounted", "volume"], ids=["dangling", "of itself"])
def test_a_link_that_leads_nowhere_refuses_with_its_path(tree, name, target):
    (tree / name).symlink_to(target if target[0] == "/" else Path(name).name)
    with pytest.raises(ConfigError, match=name):
        matching_files(tree, "src/**/*.ts")


def test_a_link_that_leads_nowhere_and_that_no_pattern_means_is_no_matter(tree):
    (tree / "src" / "lost.js").symlink_to("/not/mounted")
    assert found(tree, "src/*.ts") == ["src/a.ts"]


@pytest.mark.parametrize("pattern", ["src/**/*.ts", "src/*/*.ts", "src/b/c.ts", "src/b/*"])
def test_a_directory_that_cannot_be_read_refuses_with_its_path(tree, pattern, monkeypatch):
    closed = tree / "src" / "b"
    closed.chmod(0)
    if os.access(closed, os.R_OK):
        refuse_as_to_a_user(monkeypatch, closed)
    with pytest.raises(ConfigError, match="src/b"):
        matching_files(tree, pattern)


def refuse_as_to_a_user(monkeypatch: pytest.MonkeyPatch, closed: Path) -> None:
    """Let a closed directory refuse root too."""
    iterdir, status = Path.iterdir, Path.stat

    def refused(path: Path) -> PermissionError:
        return PermissionError(13, "Permission denied", str(path))

    def listed(path: Path) -> Iterator[Path]:
        if path == closed:
            raise refused(path)
        return iterdir(path)

    def seen(path: Path, **options: bool) -> os.stat_result:
        if closed in path.parents:
            raise refused(path)
        return status(path, **options)

    monkeypatch.setattr(Path, "iterdir", listed)
    monkeypatch.setattr(Path, "stat", seen)


@pytest.mark.parametrize("pattern", ["src/*", "src/**/*.ts", "src/x.ts"])
def test_a_pipe_that_matches_refuses_with_its_path(tree, pattern):
    os.mkfifo(tree / "src" / "x.ts")
    with pytest.raises(ConfigError, match=r"src/x\.ts"):
        matching_files(tree, pattern)


def test_a_socket_that_matches_refuses_and_one_beside_does_not():
    # The path of a socket is short.
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as made:
        (Path(short) / "a.ts").write_text("a")
        made.bind(f"{short}/s")
        assert len(matching_files(Path(short), "*.ts")) == 1
        with pytest.raises(ConfigError, match="no regular file"):
            matching_files(Path(short), "*")
