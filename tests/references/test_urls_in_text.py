"""Addresses inside longer text: which are recognised, and that no longer one is ever cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2maint.conf import load
from r2maint.keys import Addresses
from r2maint.references.urls_in_text import Passage, contains, iter_addresses, iter_spans, locate

pytestmark = pytest.mark.usefixtures("project")
URL = "https://media.example.org/a.png"
ARABIC = "/media/%D8%A3%D9%8A%D9%82%D9%88%D9%86%D8%A9.png"
TEXTS: list[tuple[str, list[str]]] = [
    # Prose and its punctuation
    ("See /media/a.png.", ["/media/a.png"]),
    ("Is it /media/a.png? Or /media/b.png!", ["/media/a.png", "/media/b.png"]),
    ("(as in /media/a.png), and so on", ["/media/a.png"]),
    ("(/media/a(1).png)", ["/media/a(1).png"]),
    ("**/media/a.png** and _/media/b.png_", ["/media/a.png"]),
    ('He said "/media/a.png."', ["/media/a.png"]),
    ('the files "/media/a.png and b.png" here', ["/media/a.png"]),
    ("/media/a.png and /media/b.png", ["/media/a.png", "/media/b.png"]),
    ("/media/a.png,/media/b.png;/media/c.jpeg", ["/media/a.png", "/media/b.png", "/media/c.jpeg"]),
    ("https://apps.example.org/media/a.png\n//media.example.org/b.png", 2),
    (f"at {URL}?v=2#top, once", [f"{URL}?v=2#top"]),
    # Arabic
    (f"انظر {ARABIC}، ثم", [ARABIC]),
    ("«/media/أيقونة.png»؟", ["/media/أيقونة.png"]),
    (f"الرابط:{URL}\u200f", [URL]),
    ("/media/a.png،/media/b.png", ["/media/a.png", "/media/b.png"]),
    # HTML
    ('<p><img src="/media/a b.png" alt=""></p>', ["/media/a b.png"]),
    ("<p><img src='/media/it.png'>/media/b.png</p>", ["/media/it.png", "/media/b.png"]),
    ("<img src=/media/a.png width=3>", ["/media/a.png"]),
    ('<img src="/media/o\'brien.png">', ["/media/o'brien.png"]),
    ('<img src="/media/a&amp;b.png?x=1&amp;y=2"/>', ["/media/a&amp;b.png?x=1&amp;y=2"]),
    (
        '<img srcset="/media/a.png 1x, /media/b.png 2x,/media/c.png 3x">',
        ["/media/a.png", "/media/b.png", "/media/c.png"],
    ),
    ('<p style="background:url(&quot;/media/a.png&quot;)">', ["/media/a.png"]),
    ("<style>p {background:url(/media/a.png)}</style>", ["/media/a.png"]),
    ("&ldquo;/media/a.png&rdquo;&nbsp;/media/b.png&nbsp;", ["/media/a.png", "/media/b.png"]),
    # Markdown, BBCode, JSON
    ('![x](/media/a.png "title")', ["/media/a.png"]),
    ("![x](</media/a b.png>)", ["/media/a b.png"]),
    ("[![x](/media/a.png)](/media/b.png)", ["/media/a.png", "/media/b.png"]),
    (f"<{URL}>", [URL]),
    ("| `/media/a.png` | /media/b.png|", ["/media/a.png", "/media/b.png"]),
    ("[img]/media/a.png[/img]", ["/media/a.png"]),
    ('{"a": "/media/a b.png", "b": ["/media/c.png"]}', ["/media/a b.png", "/media/c.png"]),
    ('"<img src=\\"/media/a.png\\">"', ["/media/a.png"]),
    # Longer addresses, of which a part would be another
    ("x /media/a.png.bak", ["/media/a.png.bak"]),
    ("x /media/a.png~ /media/a.png- /media/a.png_", []),
    ("x /other/media/a.png y", []),
    ("x ../media/a.png ~/media/a.png C:/media/a.png file:/media/a.png", []),
    ("x https://elsewhere.example/media/a.png", []),
    ("x https://elsewhere.example/w_300,/media/a.png?u=/media/a.png", []),
    ("x https://elsewhere.example/cdn-cgi/image/w=80,h=80/https://media.example.org/a.png", []),
    ("x page?next=/media/a.png", []),
    ("x {{ base }}/media/a.png ${BASE}/media/a.png", []),
    ("x https://<host>/media/a.png https://&lt;host&gt;/media/a.png", []),
    ("x /media/my photo.png", []),
    ("x /media/caf&eacute;.png", []),
    ("x /media/a.pngوهي", []),
    # No address at all
    ("x /media/ and /media/uploads/ or /media/uploads", []),
    ('x "https://media.example.org/" + "https://media.example.org/apps/"', []),
    ("x https://apps.example.org/page.html and /page/about.html", []),
    ("x a/media/a.png, 1/2, and/or, media.example.org/a.png", []),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS, ids=[text[:40] for text, _ in TEXTS])
def test_an_address_in_a_text_is_found_as_it_stands_there(text, expected):
    addresses = Addresses.from_config(load())
    found = [address for address, _ in iter_addresses(text, addresses)]
    assert (len(found) if isinstance(expected, int) else found) == expected
    assert all(contains(text, address) for address in found)


@pytest.mark.parametrize(
    ("address", "key", "spelling"),
    [
        ("/media/a&amp;b.png", "a&b.png", "a&amp;b.png"),
        (ARABIC, "أيقونة.png", ARABIC.removeprefix("/media/")),
        (f"{URL}?x=1&amp;y=2", "a.png", None),
    ],
    ids=["html", "percent", "query"],
)
def test_what_an_address_means_is_read_as_html_first(address, key, spelling):
    target = locate(address, Addresses.from_config(load()))
    assert target is not None
    assert target.key == key
    assert spelling is None or spelling in target.spellings


@given(st.text(alphabet="/.,;:'\"()[]<>&\\ \nabmedipng?=-أ،", max_size=60))
def test_any_text_has_spans_in_order_that_stay_when_nothing_is_exchanged(text):
    spans = list(iter_spans(text))
    assert spans == sorted(spans)
    assert all(start < end for start, end in spans)
    assert all(one[1] <= two[0] for one, two in pairwise(spans))
    passage = Passage([text])
    assert passage.texts() == [text]


OLD, NEW, LATER = "/media/a.png", URL, "https://media.example.org/b.webp"
PIECES = st.sampled_from([OLD, NEW, LATER, OLD + ".bak", "/media/c.png", "word", '<img src="x">'])


@given(st.lists(PIECES, max_size=12), st.lists(st.sampled_from([OLD, "/media/c.png"]), max_size=3))
def test_the_way_back_in_the_opposite_order_gives_the_text_again(pieces, olds):
    text = " ".join(["start", *pieces, "end"])
    forward = Passage([text])
    made = [(old, forward.exchange(old, NEW)) for old in dict.fromkeys(olds)]
    (after,) = forward.texts()
    assert OLD + ".bak" not in text or OLD + ".bak" in after
    back = Passage([after])
    for old, places in reversed(made):
        if places:
            assert back.exchange(NEW, old, places)
    assert back.texts() == [text]
    assert forward.can_be_read_back()
    assert back.can_be_read_back()


@pytest.mark.parametrize(
    ("made", "now", "expected"),
    [
        ([True, False], f"{NEW} and {NEW}", f"{OLD} and {NEW}"),
        ([True, True], f"only {NEW}", f"only {OLD}"),
        ([True, False], f"only {NEW}", None),
        ([True], f"{NEW} and {NEW}", None),
        ([True, True, False], f"only {NEW}", None),
    ],
    ids=["mine", "one-was-removed", "whose", "one-more", "already-back"],
)
def test_only_occurrences_that_were_made_come_back(made, now, expected):
    passage = Passage([now])
    assert bool(passage.exchange(NEW, OLD, made)) is (expected is not None)
    assert passage.texts() == [expected or now]


def test_older_rewrites_stay_where_a_newer_one_cannot_be_told():
    passage = Passage([f"{NEW} {NEW}"])
    assert passage.exchange(NEW, "/media/c.png", [False, False, True]) == []
    assert passage.exchange(NEW, OLD, [True, True]) == []
    assert not passage.is_there(NEW, OLD)


def test_what_was_exchanged_once_is_not_exchanged_again():
    passage = Passage([f"{OLD} {NEW}"])
    assert passage.exchange(OLD, NEW) == [True, False]
    assert passage.exchange(NEW, LATER) == [True]
    assert passage.texts() == [f"{NEW} {LATER}"]


def test_an_address_that_would_run_into_its_text_is_noticed():
    passage = Passage(["![x](/media/a.png)"])
    passage.exchange(OLD, "/media/a b.png")
    assert not passage.can_be_read_back()
