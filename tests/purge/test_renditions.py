from __future__ import annotations

import unicodedata

import pytest

from r2maint.purge.variants.renditions import Derivations


def is_kept(pattern: str, key: str, *named: str) -> bool:
    def has_named(start: str) -> bool:
        return any(key == start or key.startswith(start + ".") for key in named)

    return Derivations([pattern]).is_kept(key, has_named)


@pytest.mark.parametrize(
    ("pattern", "key", "original"),
    [
        ("{stem}__sized__*", "a/photo__sized__9x9.webp", "a/photo.webp"),
        ("{stem}__sized__*", "a/b__sized__c__sized__d__sized__e.webp", "a/b__sized__c.jpg"),
        ("{stem}-*", "a/my-nice-photo-200x200-crop.webp", "a/my-nice-photo.webp"),
        ("thumbs/{name}.*", "a/thumbs/photo.jpg.9.jpg", "a/photo.jpg"),
        ("*/{stem}_small.*", "x/photo_small.webp", "photo.webp"),
        ("{stem}/{stem}_*", "a/photo/photo_9.webp", "a/photo.webp"),
        ("cache/{path}/*", "cache/a/b.webp/9", "a/b.webp"),
        ("easy_thumbnails", "a/photo.jpg.100x100_q85.jpg.webp", "a/photo.jpg"),
        ("imagekit", "CACHE/images/a/photo/0123.jpg", "a/photo.png"),
        (
            "versatileimagefield",
            "__sized__/a/my-nice-photo-thumbnail-9x9-70.jpg",
            "a/my-nice-photo.jpg",
        ),
        ("versatileimagefield", "__filtered__/a/in__out__invert.jpg", "a/in.jpg"),
        ("versatileimagefield", "a/__filtered__/in__invert__.jpg", "a/in.jpg"),
        (
            "versatileimagefield",
            "__sized__/a/__filtered__/in__invert__-thumbnail-9x9-70.jpg",
            "a/in.jpg",
        ),
        ("imagekit", "CACHE/images/a/photo.5ff3233527c5.jpg", "a/photo.png"),
        ("thumbs/{dir}small/t_{name}.*", "thumbs/a/b/small/t_photo.jpg.9x9.png", "a/b/photo.jpg"),
        ("*/{dir}{stem}.*", "any/thing/a/b/photo.webp", "a/b/photo.jpg"),
        ("{stem}_??x??.*", "a/photo_10x20.webp", "a/photo.jpg"),
        ("{stem}_[0-9]*", "a/photo_1_2.webp", "a/photo.jpg"),
        ("{stem}[1].*", "a/photo[1].webp", "a/photo.jpg"),
        ("{stem}[!a]*", "a/photo-1.webp", "a/photo.jpg"),
        ("{stem}[z-a].*", "a/photo[z-a].webp", "a/photo.jpg"),
        ("[{stem}].*", "a/[photo].webp", "a/photo.jpg"),
        ("[thumb]-{stem}.*", "a/[thumb]-photo.webp", "a/photo.jpg"),
        ("{stem} [*].webp", "a/photo [9x9].webp", "a/photo.jpg"),
        ("{stem}[]].webp", "a/photo].webp", "a/photo.jpg"),
    ],
)
def test_a_rendition_is_kept_while_its_original_is_named(pattern, key, original):
    assert is_kept(pattern, key, original)
    assert not is_kept(pattern, key, "another/file.webp")


EASY = {"THUMBNAIL_BASEDIR": "thumbs", "THUMBNAIL_SUBDIR": "small", "THUMBNAIL_PREFIX": "t_"}
BY_OPTIONS = {"THUMBNAIL_BASEDIR": "thumbs/%(opts)s"}
NAMERS = "imagekit.cachefiles.namers"


@pytest.mark.parametrize(
    ("preset", "given", "key", "original"),
    [
        ("easy_thumbnails", EASY, "thumbs/a/b/small/t_photo.jpg.9x9_q85.jpg", "a/b/photo.jpg"),
        ("easy_thumbnails", EASY, "a/b/photo.jpg.9x9_q85.jpg", "a/b/photo.jpg"),
        ("easy_thumbnails", BY_OPTIONS, "thumbs/9x9_q85/a/photo.jpg", "a/photo.jpg"),
        ("easy_thumbnails", BY_OPTIONS, "thumbs/9x9_q85/a/photo@2x.jpg", "a/photo.jpg"),
        ("easy_thumbnails", BY_OPTIONS, "thumbs/9x9_q85/a/photo.png.jpg", "a/photo.png"),
        ("imagekit", {"IMAGEKIT_CACHEFILE_DIR": "c"}, "c/a/photo/0123.jpg", "a/photo.png"),
        (
            "versatileimagefield",
            {"VERSATILEIMAGEFIELD_SETTINGS": {"sized_directory_name": "s"}},
            "s/a/photo-crop-c0-5__0-5-9x9-70.jpg",
            "a/photo.jpg",
        ),
        (
            "versatileimagefield",
            {"VERSATILEIMAGEFIELD_SETTINGS": {"filtered_directory_name": "f"}},
            "__sized__/a/f/photo__invert__-thumbnail-9x9.png",
            "a/photo.png",
        ),
    ],
)
def test_a_preset_follows_the_settings_of_its_app(preset, given, key, original):
    def has(named: str):
        return lambda start: named == start or named.startswith(start + ".")

    derivations = Derivations([preset], given)
    assert derivations.is_kept(key, has(original))
    assert not derivations.is_kept(key, has("another/file.webp"))


@pytest.mark.parametrize(
    ("preset", "given", "key", "kept"),
    [
        ("sorl", {"THUMBNAIL_PREFIX": "t/"}, "t/ab/cd/0123.jpg", True),
        ("sorl", {"THUMBNAIL_PREFIX": ""}, f"ab/cd/ab{'0' * 30}@1.5x.jpg", True),
        ("sorl", {"THUMBNAIL_PREFIX": ""}, "ab/cd/photo.jpg", False),
        ("imagekit", {}, f"CACHE/images/{'0' * 32}.jpg", True),
        ("imagekit", {}, "CACHE/images/photo.jpg", False),
        ("imagekit", {"IMAGEKIT_CACHEFILE_NAMER": f"{NAMERS}.hash"}, "CACHE/images/a.jpg", False),
        ("imagekit", {"IMAGEKIT_CACHEFILE_NAMER": "own.namer"}, "CACHE/images/a.jpg", True),
        (
            "easy_thumbnails",
            {"THUMBNAIL_NAMER": "easy_thumbnails.namers.hashed"},
            "a/6qW1buHgLaZ9.jpg",
            True,
        ),
        (
            "easy_thumbnails",
            {"THUMBNAIL_NAMER": "easy_thumbnails.namers.source_hashed"},
            "a/1xedFtqllFo9_100x100_QHCa6G1l.jpg",
            True,
        ),
        ("easy_thumbnails", {}, "a/6qW1buHgLaZ9.jpg", False),
        ("versatileimagefield", {}, "__placeholder__/a.png", True),
        (
            "versatileimagefield",
            {"VERSATILEIMAGEFIELD_SETTINGS": {"placeholder_directory_name": ""}},
            "a.png",
            False,
        ),
    ],
)
def test_names_that_do_not_tell_their_original_are_kept_by_their_shape(preset, given, key, kept):
    assert Derivations([preset], given).is_kept(key, lambda start: False) == kept


@pytest.mark.parametrize(
    ("key", "original"),
    [
        ("media/CACHE/images/a/photo/0123.jpg", "media/a/photo.png"),
        ("media/CACHE/images/a/photo/0123.jpg", "uploads/a/photo.png"),
        ("CACHE/images/a/photo/0123.jpg", "media/a/photo.png"),
    ],
)
def test_a_preset_looks_below_the_locations_of_storages(key, original):
    derivations = Derivations(["imagekit"], {}, ["media", "/uploads/"])
    assert derivations.is_kept(key, lambda start: original.startswith(start + "."))
    assert not derivations.is_kept(key, lambda start: False)


def test_a_key_of_any_length_is_judged():
    key = "a/" * 500 + "photo-9x9.webp"
    assert is_kept("*{path_stem}-*", key, "photo.webp")
    assert not is_kept("*{path_stem}-*", key, "other.webp")


def test_a_pattern_without_an_original_keeps_whatever_it_matches():
    assert is_kept("sorl", "cache/ab/cd/0123.jpg")
    assert not is_kept("sorl", "caches/0123.jpg")


def test_a_decomposed_spelling_is_the_same_key():
    key = "café/photo__sized__9.webp"
    for form in ("NFC", "NFD"):
        normal = unicodedata.normalize(form, key)
        assert is_kept("café/{path_stem}__sized__*", normal, "photo.webp")
