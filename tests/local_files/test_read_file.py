"""Local files are found below their root, checked and hashed."""

import hashlib
import os

import pytest

from r2maint.local_files.read_file import UnusableSource, locate_file, read_source

PNG = b"\x89PNG\r\n\x1a\n" + b"rest of a picture"


def test_a_file_below_its_root_is_found(tmp_path):
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "صورة %.png").write_bytes(PNG)

    assert locate_file(tmp_path, "a b/صورة %.png").read_bytes() == PNG


def test_a_link_that_leaves_the_root_is_refused(tmp_path):
    root = tmp_path / "media"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(PNG)
    (root / "innocent.png").symlink_to(tmp_path / "secret.png")

    with pytest.raises(UnusableSource) as caught:
        locate_file(root, "innocent.png")
    assert caught.value.reason == "outside"


def test_a_link_inside_the_root_is_followed(tmp_path):
    (tmp_path / "real.png").write_bytes(PNG)
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")

    assert locate_file(tmp_path, "link.png") == (tmp_path / "real.png").resolve()


@pytest.mark.parametrize(
    "relative",
    ["../secret.png", "a/../../secret.png", "/etc/hostname"],
    ids=["parent", "hidden parent", "absolute"],
)
def test_a_path_that_leaves_the_root_is_refused(tmp_path, relative):
    root = tmp_path / "media"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(PNG)

    with pytest.raises(UnusableSource) as caught:
        locate_file(root, relative)
    assert caught.value.reason == "outside"


@pytest.mark.parametrize(
    "relative",
    ["no.png", "", "directory", "x" * 300 + ".png", "nul\0byte.png", "loop"],
    ids=["absent", "root itself", "directory", "name too long", "NUL byte", "loop of links"],
)
def test_what_is_no_file_is_missing(tmp_path, relative):
    (tmp_path / "directory").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")

    with pytest.raises(UnusableSource) as caught:
        locate_file(tmp_path, relative)
    assert caught.value.reason == "missing"


def test_hashes_size_and_type_come_from_the_bytes(tmp_path):
    body = PNG + os.urandom(3 * 2**20)
    path = tmp_path / "lie.jpg"
    path.write_bytes(body)

    source = read_source(path, images_only=True)

    assert source.sha256 == hashlib.sha256(body).hexdigest()
    assert source.size == len(body)
    assert source.type is not None
    assert (source.type.content_type, source.type.ext) == ("image/png", ".png")


@pytest.mark.parametrize(
    ("body", "images_only", "reason"),
    [
        (b"", True, "empty"),
        (b"", False, "empty"),
        (b"%PDF-1.7 a document", True, "not_an_image"),
        (b"plain text", True, "not_an_image"),
        (PNG * 100, True, "too_large"),
        (PNG * 100, False, "too_large"),
    ],
    ids=["empty", "empty, named", "document", "text", "large", "large, named"],
)
def test_what_cannot_be_migrated_says_why(tmp_path, body, images_only, reason):
    path = tmp_path / "file"
    path.write_bytes(body)

    with pytest.raises(UnusableSource) as caught:
        read_source(path, images_only=images_only, max_bytes=1000)
    assert caught.value.reason == reason


def test_a_document_in_a_field_that_a_setting_names_is_taken(tmp_path):
    path = tmp_path / "terms.pdf"
    path.write_bytes(b"%PDF-1.7" + b" " * 5000)

    source = read_source(path, images_only=False, max_bytes=1000)

    assert source.type is not None
    assert source.type.content_type == "application/pdf"


def test_an_unreadable_file_says_so(tmp_path):
    with pytest.raises(UnusableSource) as caught:
        read_source(tmp_path, images_only=True)
    assert caught.value.reason == "unreadable"
