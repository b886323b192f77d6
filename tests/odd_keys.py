"""Keys that tools get wrong."""

from __future__ import annotations

ODD_KEYS = [
    " leading and trailing ",
    "#hash?query=1&b=2",
    "%2F encoded",
    "+plus+",
    "/leading/slash",
    "A",
    "a",
    "a-b",
    "a.b",
    "a/",
    "a//b",
    "a/b",
    "back\\slash",
    "folder/",
    'it\'s "quoted" <b>&amp;',
    "tilde~*()!",
    "x" * 1024,
    "Contents>.png",
    "صورة/أيقونة التطبيق.webp",
    "caf\u00e9.png",
    "\uff5e.png",
    "\U0001f600.png",
]
DOTTED_KEYS = ["../up", "./here", "a/../b", "a/./b", "a/.."]
