"""An S3 server in memory, cheap enough not to be what is measured, that keeps what it is told.

    python benchmarks/memorys3.py --port P [--objects N]

One bucket of any name, which is emptied by creating it. It answers what a purge and its peers ask:
LIST, HEAD, GET, PUT (with If-Match and If-None-Match), CopyObject (pinned, headers kept or
replaced), DELETE and DeleteObjects. N objects are there at the beginning, named as bigbucket.py
says, forty days old, with headers of their own and their key as their bytes. No signature is
looked at, and nothing is written to disk.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import hashlib
import re
import time
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape, unescape

KINDS = ("icons", "main_ar", "main_en", "screens_ar", "screens_en")
KEPT = re.compile(
    r"content-(type|disposition|encoding|language)|cache-control|expires|x-amz-meta-.*"
)
_KEYS = re.compile(r"<Key>([^<]*)</Key>")
AGE_SECONDS = 40 * 86400
TOP = "\U0010ffff"


class Stored(NamedTuple):
    body: bytes
    etag: str
    modified: float
    storage_class: str
    headers: str
    """As they are served."""


class Bucket:
    def __init__(self, count: int) -> None:
        self.objects: dict[str, Stored] = {}
        self.sorted: list[str] = []
        self.is_sorted = True
        old, headers = float(int(time.time()) - AGE_SECONDS), served({"content-type": "image/webp"})
        for key in original_keys(count):
            body = key.encode()
            self.objects[key] = Stored(body, md5(body), old, "STANDARD", headers)
        self.is_sorted = False

    def store(self, key: str, stored: Stored) -> None:
        self.is_sorted = self.is_sorted and key in self.objects
        self.objects[key] = stored

    def remove(self, key: str) -> None:
        if self.objects.pop(key, None) is not None:
            self.is_sorted = False

    def keys(self) -> list[str]:
        if not self.is_sorted:
            self.sorted, self.is_sorted = sorted(self.objects), True
        return self.sorted


def original_keys(count: int):
    """Yield the keys that are there at the beginning."""
    for number in range(1, count // len(KINDS) + 1):
        name = md5(str(number).encode())[:16]
        for kind in KINDS:
            yield f"submissions/{number:08d}/{kind}/{name}.webp"


def md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def served(headers: dict[str, str]) -> str:
    return "".join(
        f"{name}: {value}\r\n" for name, value in headers.items() if KEPT.fullmatch(name)
    )


@lru_cache(maxsize=4096)
def http_date(at: float) -> str:
    return formatdate(at, usegmt=True)


@lru_cache(maxsize=4096)
def iso_date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Refusal(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(status, code)


class Connection(asyncio.Protocol):
    """One client, one request after the other."""

    bucket: Bucket
    latency = 0.0
    """Seconds that every answer waits."""

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            if self.buffer.startswith(b"HEAD "):
                target = self.buffer[5 : self.buffer.index(b" ", 5)].decode()
                del self.buffer[: end + 4]
                self.tell("HEAD", target, {}, b"")
                continue
            head = self.buffer[:end].decode("latin-1").split("\r\n")
            headers = {}
            for line in head[1:]:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            if headers.pop("expect", ""):
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.buffer[:end] = self.buffer[:end].replace(b"xpect", b"x-no")
            length = int(headers.get("content-length", 0))
            if len(self.buffer) < end + 4 + length:
                return
            body = bytes(self.buffer[end + 4 : end + 4 + length])
            del self.buffer[: end + 4 + length]
            method, target, _ = head[0].split(" ")
            self.tell(method, target, headers, body)

    def tell(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        try:
            self.answer(*self.act(method, target, headers, body), is_head=method == "HEAD")
        except Refusal as refusal:
            status, code = refusal.args
            text = f"<Error><Code>{code}</Code><Message></Message></Error>"
            self.answer(status, "", text.encode(), is_head=method == "HEAD")

    def answer(self, status: int, lines: str, body: bytes, *, is_head: bool = False) -> None:
        head = (
            f"HTTP/1.1 {status} x\r\nDate: {http_date(int(time.time()))}\r\n{lines}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        whole = head.encode("latin-1") + (b"" if is_head else body)
        if self.latency:
            asyncio.get_running_loop().call_later(self.latency, self.transport.write, whole)
        else:
            self.transport.write(whole)

    def act(self, method: str, target: str, headers: dict[str, str], body: bytes):
        path, _, query = target.partition("?")
        key = unquote(path.lstrip("/").partition("/")[2])
        if not key:
            return self.act_on_bucket(method, parse_qs(query, keep_blank_values=True), body)
        if method in ("GET", "HEAD"):
            return self.read(key)
        if method == "PUT" and "x-amz-copy-source" in headers:
            return self.copy(key, headers)
        if method == "PUT":
            return self.put(key, headers, body)
        if method == "DELETE":
            self.bucket.remove(key)
            return 204, "", b""
        raise Refusal(501, "NotImplemented")

    def act_on_bucket(self, method: str, query: dict[str, list[str]], body: bytes):
        if method == "PUT" and not query:
            Connection.bucket = Bucket(0)
        if method == "POST" and "delete" in query:
            return self.delete(body.decode())
        if method == "GET" and "lifecycle" in query:
            raise Refusal(404, "NoSuchLifecycleConfiguration")
        if method == "GET" and "uploads" in query:
            return xml(
                "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
            )
        if method == "GET":
            return self.list({name: values[0] for name, values in query.items()})
        return 200, "", b""

    # Objects

    def find(self, key: str) -> Stored:
        try:
            return self.bucket.objects[key]
        except KeyError:
            raise Refusal(404, "NoSuchKey") from None

    def read(self, key: str):
        body, etag, modified, storage_class, headers = self.find(key)
        lines = (
            f'ETag: "{etag}"\r\nLast-Modified: {http_date(modified)}\r\n'
            f"x-amz-storage-class: {storage_class}\r\n{headers}"
        )
        return 200, lines, body

    def put(self, key: str, headers: dict[str, str], body: bytes):
        there = self.bucket.objects.get(key)
        wanted = headers.get("if-match", "").strip('"')
        if ("if-none-match" in headers and there) or (
            wanted and (there is None or there.etag != wanted)
        ):
            raise Refusal(412, "PreconditionFailed")
        stored = self.stored(body, md5(body), headers, served(headers))
        self.bucket.store(key, stored)
        return 200, f'ETag: "{stored.etag}"\r\n', b""

    def copy(self, key: str, headers: dict[str, str]):
        source = self.find(unquote(headers["x-amz-copy-source"].lstrip("/").partition("/")[2]))
        if headers.get("x-amz-copy-source-if-match", source.etag).strip('"') != source.etag:
            raise Refusal(412, "PreconditionFailed")
        keeps = headers.get("x-amz-metadata-directive") != "REPLACE"
        own = source.headers if keeps else served(headers)
        stored = self.stored(source.body, source.etag, headers, own)
        self.bucket.store(key, stored)
        return xml(
            f"<CopyObjectResult><LastModified>{iso_date(stored.modified)}</LastModified>"
            f"<ETag>&quot;{stored.etag}&quot;</ETag></CopyObjectResult>"
        )

    def stored(self, body: bytes, etag: str, headers: dict[str, str], own: str) -> Stored:
        storage_class = headers.get("x-amz-storage-class", "STANDARD")
        return Stored(body, etag, float(int(time.time())), storage_class, own)

    def delete(self, body: str):
        keys = [unescape(key) for key in _KEYS.findall(body)]
        for key in keys:
            self.bucket.remove(key)
        told = "" if "<Quiet>true" in body else "".join(map(deleted, keys))
        return xml(f"<DeleteResult>{told}</DeleteResult>")

    # The listing

    def list(self, query: dict[str, str]):
        keys, prefix = self.bucket.keys(), query.get("prefix", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        low = bisect.bisect_left(keys, prefix)
        low = max(low, bisect.bisect_right(keys, after)) if after else low
        high = bisect.bisect_left(keys, prefix + TOP)
        end = min(low + min(int(query.get("max-keys", 1000)), 1000), high)
        token = f"<NextContinuationToken>{escape(keys[end - 1])}</NextContinuationToken>"
        return xml(
            f"<ListBucketResult><IsTruncated>{'true' if end < high else 'false'}</IsTruncated>"
            + (token if end < high else "")
            + "".join(map(self.entry, keys[low:end]))
            + "</ListBucketResult>"
        )

    def entry(self, key: str) -> str:
        body, etag, modified, storage_class, _ = self.bucket.objects[key]
        return (
            f"<Contents><Key>{escape(key)}</Key><LastModified>{iso_date(modified)}</LastModified>"
            f"<ETag>&quot;{etag}&quot;</ETag><Size>{len(body)}</Size>"
            f"<StorageClass>{storage_class}</StorageClass></Contents>"
        )


def deleted(key: str) -> str:
    return f"<Deleted><Key>{escape(key)}</Key></Deleted>"


def xml(text: str):
    return 200, "Content-Type: application/xml\r\n", text.encode()


async def serve(port: int, objects: int, latency_ms: float) -> None:
    Connection.bucket = Bucket(objects)
    Connection.latency = latency_ms / 1000
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--objects", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0)
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.objects, options.latency_ms))


if __name__ == "__main__":
    main()
