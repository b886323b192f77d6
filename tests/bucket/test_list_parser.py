"""Pages of a listing: read exactly, and trusted only when they are whole and in order."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2maint.bucket import list_parser
from r2maint.bucket.list_guard import guarded
from r2maint.bucket.list_parser import read_page
from r2maint.bucket.protocol import Page, StoredObject
from r2maint.errors import BucketError, InvalidListing

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
ETAG = "&quot;0123456789abcdef0123456789abcdef&quot;"
TAIL = f"<ETag>{ETAG}</ETag><Size>7</Size><StorageClass>STANDARD</StorageClass>"


def entry(key, time="2026-01-02T03:04:05.678Z", tail=TAIL):
    return f"<Contents><Key>{key}</Key><LastModified>{time}</LastModified>{tail}</Contents>"


def page(*entries, truncated="false", more="", root=f"ListBucketResult {XMLNS}"):
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}><Name>b</Name><Prefix/>'
        f"<IsTruncated>{truncated}</IsTruncated>{more}{''.join(entries)}</{root.split()[0]}>"
    ).encode()


def stored(key, **changes):
    return StoredObject(key, 7, "0123456789abcdef0123456789abcdef", TIME)._replace(**changes)


def test_a_common_page_is_read_without_the_xml_parser(monkeypatch):
    monkeypatch.setattr(list_parser, "_read_any", None)
    answer = read_page(page(entry("a"), entry("b/صورة.png")))
    assert answer == Page([stored("a"), stored("b/صورة.png")], False, "")


@pytest.mark.parametrize(
    "body",
    [
        page(entry("a", tail=TAIL.replace("&quot;", '"'))),
        page(entry("a", time="2026-01-02T03:04:05Z")),
        page(entry("a", time="2026-01-02T05:04:05.678+02:00")),
        page(entry("a", tail=f"<ETag>{ETAG}</ETag><Size>7</Size>")),
        page(entry("a", tail=f"<Owner><ID>1</ID></Owner>{TAIL}")),
        page(entry("a", tail=f"<ChecksumAlgorithm>CRC32</ChecksumAlgorithm>{TAIL}")),
        page(
            entry("a", tail=TAIL.replace("<Size>", "<ChecksumType>FULL_OBJECT</ChecksumType><Size>"))
        ),
        page("<Contents><Size>7</Size>" + entry("a", tail=TAIL.replace("<Size>7</Size>", ""))[10:]),
        page(entry("a").replace("><", ">\n  <")),
        page(entry("<![CDATA[a]]>")),
        page(entry("&#97;")),
        page(entry("a").replace("<", "<s3:").replace("<s3:/", "</s3:"), root='ListBucketResult xmlns:s3="s3"'),
        page(entry("a"), "<!-- " + entry("b") + " -->"),
        page(entry("a")).replace(b"UTF-8", b"US-ASCII"),
        page(entry("a"), "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>"),
    ],
    ids=[
        "plain-quotes", "no-fraction", "offset", "no-class", "owner", "checksum", "checksum-type",
        "other-order", "whitespace", "cdata", "entity", "prefixed", "comment", "encoding", "folder",
    ],
)  # fmt: skip
def test_every_shape_of_a_page_means_the_same(body):
    assert read_page(body).objects == [stored("a")]


def test_one_entry_of_another_shape_is_not_lost():
    odd = entry("b", tail=f"<Owner/>{TAIL}")
    assert [item.key for item in read_page(page(entry("a"), odd, entry("c"))).objects] == [*"abc"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a+b%2Bc%20d", "a b+c d"),
        ("%D8%B5%D9%88%D8%B1%D8%A9", "صورة"),
        ("a%2F%2Fb/%25", "a//b/%"),
        ("%01%0A%0D", "\x01\n\r"),
        ("Contents%3E", "Contents>"),
        ("%26amp%3B", "&amp;"),
    ],
)
def test_encoded_keys_are_decoded_exactly(text, key):
    body = page(entry(text), more="<EncodingType>url</EncodingType>")
    assert read_page(body).objects == [stored(key)]


@pytest.mark.parametrize("key", ["a+b", "100%", "%20", "a &amp; b", "a&lt;b"])
def test_keys_are_taken_as_they_are_when_the_answer_is_not_encoded(key):
    plain = key.replace("&amp;", "&").replace("&lt;", "<")
    assert read_page(page(entry(key))).objects == [stored(plain)]


@given(st.lists(st.text(st.characters(codec="utf-8", min_codepoint=32), min_size=1), max_size=5))
def test_any_keys_come_back_exactly(keys):
    encoded = [entry(quote_plus(key)) for key in keys]
    body = page(*encoded, more="<EncodingType>url</EncodingType>")
    assert [item.key for item in read_page(body).objects] == keys


@given(st.lists(st.text(st.characters(codec="utf-8", min_codepoint=32, exclude_characters="\x7f\ufffe\uffff"), min_size=1), max_size=5))  # fmt: skip
def test_both_readers_agree(keys):
    body = page(*[entry(escape(key)) for key in keys])
    assert read_page(body) == list_parser._read_any(body)
    assert [item.key for item in read_page(body).objects] == keys


def test_the_token_and_truncation_are_read():
    token = "<NextContinuationToken>1/a&amp;b==</NextContinuationToken>"
    answer = read_page(page(entry("a"), truncated="true", more=token))
    assert (answer.truncated, answer.token) == (True, "1/a&b==")


def test_a_storage_class_is_read():
    body = page(entry("a", tail=TAIL.replace("STANDARD", "STANDARD_IA")))
    assert read_page(body).objects == [stored("a", storage_class="STANDARD_IA")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"OK",
        b"<html><body>Welcome to nginx!</body></html>",
        b"<!doctype html><title>Sign in</title><p>Sign in",
        b'{"buckets": []}',
        b"<Error><Code>InternalError</Code></Error>",
        page(entry("a"))[:-20],
        page(entry("a"), truncated=""),
        page(entry("")),
        page("<Contents><Key>a</Key></Contents>"),
        page(entry("a", time="yesterday")),
        page(entry("a")).replace(b">a<", b">\xff<"),
    ],
    ids=[
        "empty", "text", "html", "html5", "json", "error", "cut", "no-truncation", "no-key",
        "no-size", "time", "bytes",
    ],
)  # fmt: skip
def test_an_answer_that_is_no_listing_is_an_error_not_an_empty_list(body):
    with pytest.raises(BucketError, match="listing cannot be read"):
        read_page(body)


def pages(*groups, tokens=None):
    last = len(groups) - 1
    tokens = tokens or [str(number) for number in range(len(groups))]
    return [
        Page([stored(key) for key in group], number < last, tokens[number] if number < last else "")
        for number, group in enumerate(groups)
    ]


def keys_of(result):
    return [item.key for group in result for item in group]


def test_a_listing_in_order_is_passed_on():
    groups = pages(["A", "a", "a-b"], [], ["a/b", "\uff5e"], ["\U0001f600"])
    assert keys_of(guarded(groups)) == ["A", "a", "a-b", "a/b", "\uff5e", "\U0001f600"]


@pytest.mark.parametrize(
    "groups",
    [
        [["b", "a"]],
        [["a", "a"]],
        [["a", "c"], ["b"]],
        [["a", "b"], ["b", "c"]],
        [["\U0001f600", "\uff5e"]],
        [["cafe\u0301", "caf\u00e8"], ["cafe\u0301z", "cafd"]],
    ],
    ids=["page", "twice", "across", "overlap", "utf-16", "neither"],
)
def test_a_listing_out_of_order_is_refused(groups):
    with pytest.raises(InvalidListing, match="out of order"):
        list(guarded(pages(*groups)))


def test_an_order_by_the_composed_form_is_an_order():
    shown = ["caf", "cafz", "cafe\u0301"]  # é sorts after z, and was last uploaded as e + accent
    assert keys_of(guarded(pages(shown[:2], shown[2:]))) == shown


def test_both_spellings_of_a_key_may_be_listed_by_a_server_that_keeps_them_apart():
    shown = ["cafe\u0301", "caf\u00e9"]
    assert keys_of(guarded(pages(shown))) == shown


@pytest.mark.parametrize("group", [["a/1", "b"], ["0", "a/1"], ["a", "a/1"]])
def test_a_key_outside_the_prefix_is_refused(group):
    with pytest.raises(InvalidListing, match="outside the prefix 'a/'"):
        list(guarded(pages(group), "a/"))


def test_a_key_not_after_the_start_is_refused():
    with pytest.raises(InvalidListing, match="out of order"):
        list(guarded(pages(["b", "c"]), start_after="b"))


def test_a_repeated_token_is_refused():
    with pytest.raises(InvalidListing, match="circles"):
        list(guarded(pages(["a"], [], ["b"], tokens=["t", "t", ""])))


def test_truncation_without_a_token_is_refused():
    with pytest.raises(InvalidListing, match="cut short"):
        list(guarded(pages(["a"], ["b"], tokens=["", ""])))


def test_empty_pages_with_new_tokens_are_followed():
    assert keys_of(guarded(pages([], [], ["a"]))) == ["a"]
