"""Reads ListObjectsV2 answers, several times faster than botocore's general parser.

`PageBodies` keeps botocore from parsing these answers, `read_page` does it: with one regular
expression where every entry of the page has the common shape, else with a complete XML parser.
Answers to DeleteObjects, which name as many keys, are read by `read_deletions`.
Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from botocore.parsers import ResponseParserFactory, RestXMLParser

from r2maint.bucket.protocol import Page, StoredObject
from r2maint.bucket.sdk_values import plain_etag
from r2maint.errors import BucketError

Entry = tuple[str, str, str, str, str]
"""Key, LastModified, ETag, Size and StorageClass as the page writes them; the ETag unquoted."""

_ENTRIES = tuple(
    re.compile(
        r"<Contents><Key>([^<&\r]+)</Key><LastModified>([^<&]+)</LastModified>"
        rf"<ETag>{quote}([^<&\"]*){quote}</ETag>"
        r"(?:<Checksum(?:Algorithm|Type)>\w*</Checksum(?:Algorithm|Type)>)*"
        r"<Size>(\d+)</Size>(?:<StorageClass>(\w*)</StorageClass>)?</Contents>"
    )
    for quote in ("&quot;", '"')
)
_OTHER_ENCODING = re.compile(rb"<\?xml[^>]*encoding=[\"'](?!utf-8[\"'])", re.IGNORECASE)
_WHOLE_PAGE = re.compile(rb"(ListBucketResult|DeleteResult)\s*/?>\s*$")
_S3_ANSWER = re.compile(rb"<([\w.-]+:)?(ListBucketResult|DeleteResult|Error)\b")
_SET_ASIDE = frozenset({"ListObjectsV2Output", "DeleteObjectsOutput"})
_HINT = "Check ENDPOINT_URL: something other than an S3 server, or a proxy, seems to answer there."


class PageBodies(RestXMLParser):
    """botocore's parser, except that long answers stay bytes, under "Page"."""

    def parse(self, response: Any, shape: Any) -> Any:
        is_long = shape is not None and shape.name in _SET_ASIDE
        if not is_long or response["status_code"] >= 300:
            return super().parse(response, shape)
        headers = {name.lower(): value for name, value in response["headers"].items()}
        metadata = {"HTTPStatusCode": response["status_code"], "HTTPHeaders": headers}
        page = response.get("page", response["body"])
        return {"Page": page, "ResponseMetadata": metadata}


class PageBodiesFactory(ResponseParserFactory):
    """For botocore's component `response_parser_factory`."""

    def create_parser(self, protocol_name: str) -> Any:
        return PageBodies() if protocol_name == "rest-xml" else super().create_parser(protocol_name)


def set_page_aside(response_dict: dict[str, Any], **event: object) -> None:
    """Keep a whole page from botocore, which parses every answer in search of an error.

    A handler of botocore's event `before-parse`. A page that is cut off, and an error sent with
    status 200, stay where botocore finds and retries them.
    """
    body = response_dict["body"]
    if _WHOLE_PAGE.search(body[-60:]) or not _S3_ANSWER.search(body[:300]):
        response_dict["page"], response_dict["body"] = body, b""


def read_page(body: bytes, place: object = "") -> Page:
    """Return the objects of one answer, exactly as stored, in the order of the answer.

    `place` is where the answer came from, as a sentence names it.

    Raises: BucketError for an answer that is no listing.
    """
    try:
        return _read_common(body) or _read_any(body)
    except (ElementTree.ParseError, UnicodeDecodeError, ValueError) as error:
        why = f"{error}" if body.strip() else "it is empty"
        raise BucketError(
            f"The answer to a listing cannot be read: {place or 'the bucket'} ({why}).", _HINT
        ) from error


def read_deletions(body: bytes, place: object = "") -> tuple[set[str], dict[str, tuple[str, str]]]:
    """Return the keys that DeleteObjects deleted, and code and message of those it did not.

    Raises: BucketError for an answer of another kind.
    """
    try:
        root = _root(body, "DeleteResult")
    except (ElementTree.ParseError, ValueError) as error:
        raise BucketError(
            f"The answer to a deletion cannot be read: {place or 'the bucket'} ({error}).", _HINT
        ) from error
    deleted: set[str] = set()
    refused: dict[str, tuple[str, str]] = {}
    for node in root:
        fields = {_local(child): child.text or "" for child in node}
        key = fields.get("Key", "")
        if _local(node) == "Deleted":
            deleted.add(key)
        elif _local(node) == "Error":
            refused[key] = (fields.get("Code") or "Error", fields.get("Message", ""))
    return deleted, refused


def _read_common(body: bytes) -> Page | None:
    """Return the page if all of it has the common shape, else None."""
    if b"<!" in body or _OTHER_ENCODING.match(body):
        return None
    text = body.decode()
    entries = _ENTRIES[0].findall(text) or _ENTRIES[1].findall(text)
    # Any other "Contents", be it an entry of another shape or part of a key, is left to expat.
    if not entries or text.count("Contents") != 2 * len(entries):
        return None
    begin, end = text.index("<Contents>"), text.rindex("</Contents>") + len("</Contents>")
    return _page(_root(text[:begin] + text[end:]), entries)


def _read_any(body: bytes) -> Page:
    root = _root(body)
    return _page(root, [_entry(node) for node in root if _local(node) == "Contents"])


def _root(text: str | bytes, expected: str = "ListBucketResult") -> ElementTree.Element:
    root = ElementTree.fromstring(text)
    if _local(root) != expected:
        raise ValueError(f"it is a <{_local(root)}>, not a <{expected}>")
    return root


def _entry(node: ElementTree.Element) -> Entry:
    fields = {_local(child): child.text for child in node if child.text}
    try:
        return (
            fields["Key"],
            fields["LastModified"],
            plain_etag(fields.get("ETag", "")),
            fields["Size"],
            fields.get("StorageClass", ""),
        )
    except KeyError as error:
        raise ValueError(f"an entry has no {error.args[0]}") from error


def _page(root: ElementTree.Element, entries: list[Entry]) -> Page:
    fields = {_local(child): child.text or "" for child in root}
    if fields.get("IsTruncated") not in ("true", "false"):
        raise ValueError("it does not say whether it is truncated")
    encoded = fields.get("EncodingType") == "url"
    return Page(
        _objects(entries, encoded),
        fields["IsTruncated"] == "true",
        fields.get("NextContinuationToken", ""),
    )


def _objects(entries: list[Entry], encoded: bool) -> list[StoredObject]:
    if not entries:
        return []
    # Column by column, because a million entries pass here and loops in C take half the time.
    keys, times, etags, sizes, classes = zip(*entries, strict=True)
    if encoded:
        keys = tuple(unquote_plus(key, errors="strict") for key in keys)
    rows = zip(
        keys,
        map(int, sizes),
        etags,
        map(_Times().__getitem__, times),
        map(_Classes().__getitem__, classes),
        strict=True,
    )
    return list(map(StoredObject._make, rows))


class _Times(dict[str, datetime]):
    """The times of one page by their text."""

    def __missing__(self, text: str) -> datetime:
        self[text] = time = _time(text)
        return time


class _Classes(dict[str, str]):
    """Storage classes by their text, one string for all objects of a class."""

    def __missing__(self, text: str) -> str:
        self[text] = text or "STANDARD"
        return self[text]


def _time(text: str) -> datetime:
    """Return the time in whole seconds: a HEAD of the same object tells no finer."""
    if text.endswith("Z"):
        return datetime.fromisoformat(text[:19] + "+00:00")
    return datetime.fromisoformat(text[:19] + text[-6:]).astimezone(UTC)


def _local(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]
