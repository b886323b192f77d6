from __future__ import annotations

import unicodedata

import pytest

from r2maint.purge.derived import Derivations


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
    ],
)
def test_a_rendition_is_kept_while_its_original_is_named(pattern, key, original):
    assert is_kept(pattern, key, original)
    assert not is_kept(pattern, key, "another/file.webp")


def test_a_pattern_without_an_original_keeps_whatever_it_matches():
    assert is_kept("sorl", "cache/ab/cd/0123.jpg")
    assert not is_kept("sorl", "caches/0123.jpg")


def test_a_decomposed_spelling_is_the_same_key():
    key = "café/photo__sized__9.webp"
    for form in ("NFC", "NFD"):
        normal = unicodedata.normalize(form, key)
        assert is_kept("café/{path_stem}__sized__*", normal, "photo.webp")
