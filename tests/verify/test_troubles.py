"""Every trouble a reference can have, planted at once: each comes out right, with its advice."""

from __future__ import annotations

import gzip
import itertools
import os
import ssl
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import trustme
from django.db import models
from PIL import Image

from r2maint.bucket import Headers, Upload, open_bucket, put
from r2maint.bucket.r2 import R2Bucket
from r2maint.conf import load
from r2maint.keys import Kind, Target, Via
from r2maint.references.reference import Reference, Shape
from r2maint.verify import FINE, Outcome
from r2maint.verify.verdicts.by_listing import judge_local
from r2maint.verify.verdicts.outcomes import Level
from tests.appdirectory.models import App, AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.servers.s3_server import Request
from tests.servers.websites import BREAK, Site, reply, site, speak

pytestmark = [pytest.mark.thorough, pytest.mark.django_db(transaction=True, databases=DATABASES)]

Answering = Callable[[Request], Iterable[bytes]]
IMAGE = "Content-Type: image/png"
ALIAS = "https://pub-0123456789abcdef.r2.dev"
LEVELS = ("bucket", "http", "content")
SECONDS = 1.0
"""In which a URL has to answer here."""


# What is planted


def drawn(format: str, frames: int = 1) -> bytes:
    """Return a picture that does not compress to nothing."""
    out = BytesIO()
    mode = "P" if format == "GIF" else "RGB"
    first, *rest = [Image.effect_noise((48, 48), 60).convert(mode) for _ in range(frames)]
    first.save(out, format, **({"save_all": True, "append_images": rest} if rest else {}))
    return out.getvalue()


PNG, JPEG, GIF = drawn("PNG"), drawn("JPEG"), drawn("GIF", frames=6)


def icon(value: str) -> models.Model:
    """A column that FIELDS names."""
    number = AppSubmission.objects.count() + 1
    return AppSubmission.objects.create(tracking_id=f"QAD-{number:06d}", app_icon_url=value)


def other_column(value: str) -> models.Model:
    """A column that nobody configured."""
    number = AppSubmission.objects.count() + 1
    return AppSubmission.objects.create(tracking_id=f"QAD-{number:06d}", main_image_ar=value)


def document(value: str) -> models.Model:
    number = AppSubmission.objects.count() + 1
    content = [{"caption": "The first page", "url": value}]
    return AppSubmission.objects.create(tracking_id=f"QAD-{number:06d}", screenshots_en=content)


def text(value: str) -> models.Model:
    number = AppSubmission.objects.count() + 1
    words = f'<p>See <img src="{value}" alt="it"> and read on.</p>'
    return AppSubmission.objects.create(tracking_id=f"QAD-{number:06d}", description_en=words)


def file_name(value: str) -> models.Model:
    app = App.objects.create(name_en="An app")
    App.objects.filter(pk=app.pk).update(application_icon=value)
    return app


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One reference: what is planted, and what has to come of it."""

    value: str
    """As stored; {key} is the case's own, the other names are those of `World.spelled`."""
    outcomes: tuple[str, ...]
    """At levels bucket, http and content; none where nobody is to hear of it."""
    detail: str = ""
    """A piece of it, where the outcome is the last of them; so is `advice`."""
    advice: str = ""
    row: Callable[[str], models.Model] = icon
    object: bytes | None = None
    """None for no object in the bucket."""
    at: str = "{key}"
    """The object's key."""
    type: str = "image/png"
    answer: Answering | None = None
    """What /{key} answers; without it our own host serves the object, and no other anything."""


def listed(outcome: str) -> tuple[str, ...]:
    """The listing tells."""
    return outcome, outcome, outcome


def asked(outcome: str) -> tuple[str, ...]:
    """The answer of our own host tells."""
    return "ok", outcome, outcome


def read(outcome: str) -> tuple[str, ...]:
    """The bytes tell."""
    return "ok", "ok", outcome


def strange(outcome: str) -> tuple[str, ...]:
    """The answer of another host tells."""
    return "external", outcome, outcome


def strange_read(outcome: str) -> tuple[str, ...]:
    return "external", "ok", outcome


UNHEARD: tuple[str, ...] = ()


def always(status: int, *headers: str, body: bytes = b"") -> Answering:
    return lambda _: [reply(status, body, *headers)]


def only_get(*headers: str, status: int = 200, refusal: int = 405) -> Answering:
    """Serve a GET, and refuse every HEAD."""
    body = PNG if status == 200 else PNG[:1]
    return lambda request: [
        reply(refusal, b"") if request.method == "HEAD" else reply(status, body, IMAGE, *headers)
    ]


def silent(request: Request) -> Iterator[bytes]:
    time.sleep(1.5 * SECONDS)
    yield BREAK


def circling(request: Request) -> list[bytes]:
    return [reply(302, b"", f"Location: {request.target}")]


def leading_on(request: Request) -> list[bytes]:
    """Lead to another address each time."""
    return [reply(302, b"", f"Location: {request.target}/on")]


OWN, STRANGER = "{own}/{key}", "{stranger}/{key}"
CUT_OFF = "{own}/" + "a" * 200
UPLOAD, NAME = "Upload the file again", "Name another address"

TROUBLES = {
    # The listing and the value tell
    "row fine, object absent": Case(
        value=OWN, outcomes=listed("missing"), detail="no such object", advice=UPLOAD
    ),
    "absent, and the value fills its column": Case(
        value="{filling}",
        outcomes=listed("missing"),
        detail="may be cut off",
        advice="max_length",
    ),
    "absent, and a file of that name lies elsewhere": Case(
        value=OWN,
        at="elsewhere/{key}",
        object=PNG,
        outcomes=listed("missing"),
        detail="no such object",
        advice="nothing proves that it is the same",
    ),
    "a FileField's file is nowhere": Case(
        value="{key}",
        row=file_name,
        outcomes=listed("missing"),
        detail="no file at",
        advice="Put the file back",
    ),
    "absent in a JSON document": Case(
        value=OWN, row=document, outcomes=listed("missing"), detail="no such object", advice=UPLOAD
    ),
    "absent inside text": Case(
        value=OWN, row=text, outcomes=listed("missing"), detail="no such object", advice=UPLOAD
    ),
    "an empty object": Case(
        value=OWN, object=b"", outcomes=listed("empty"), detail="0 bytes", advice=UPLOAD
    ),
    "an old alias": Case(
        value="{alias}/{key}",
        object=PNG,
        outcomes=listed("alias"),
        detail="another base",
        advice="--repair alias",
    ),
    "an old alias of what is absent": Case(
        value="{alias}/{key}", outcomes=listed("missing"), detail="no such object", advice=UPLOAD
    ),
    "the S3 endpoint": Case(
        value="{endpoint}/{key}",
        object=PNG,
        outcomes=listed("private_endpoint"),
        detail="only signed requests",
        advice="--repair endpoint",
    ),
    "a presigned URL": Case(
        value="{presigned}",
        object=PNG,
        outcomes=listed("presigned"),
        detail="within seven days",
        advice="--repair presigned",
    ),
    "another spelling by case": Case(
        value="{own}/UPPER-{key}",
        at="upper-{key}",
        object=PNG,
        outcomes=listed("respelled"),
        detail="upper and lower case",
        advice="Nothing proves",
    ),
    "another spelling by encoding": Case(
        value="{own}/a%20{key}",
        at="a%20{key}",
        object=PNG,
        outcomes=listed("respelled"),
        detail="the bucket holds 'a%20",
        advice="--repair respelled",
    ),
    "encoded twice": Case(
        value="{own}/b%2520{key}",
        at="b {key}",
        object=PNG,
        outcomes=listed("respelled"),
        detail="the bucket holds 'b ",
        advice="--repair respelled",
    ),
    "in quarantine": Case(
        value="{own}/apps/quarantined.png",
        outcomes=listed("quarantined"),
        detail="its copy is in quarantine",
        advice="--repair quarantined",
    ),
    "longer than its column": Case(
        value=OWN + "?" + "v" * 200,
        object=PNG,
        outcomes=listed("too_long"),
        detail="the column takes 200",
        advice="max_length",
    ),
    "too long once it is rewritten": Case(
        value="{alias}/" + "é" * 40 + "{key}",
        at="é" * 40 + "{key}",
        object=PNG,
        outcomes=listed("too_long"),
        detail="its public URL has",
        advice="max_length",
    ),
    "no address, where one is configured": Case(
        value="book", outcomes=listed("invalid"), detail="neither an address", advice="FIELDS"
    ),
    "half an address, where one is configured": Case(
        value="https:///{key}", outcomes=listed("invalid"), detail="neither", advice="FIELDS"
    ),
    "no address, where none is configured": Case(value="book", row=other_column, outcomes=UNHEARD),
    "a lifecycle rule is about to delete it": Case(
        value="{own}/temp/{key}",
        at="temp/{key}",
        object=PNG,
        outcomes=asked("expiring"),
        detail="the lifecycle rule 'tidy' deletes the object on",
        advice="Narrow the rule",
    ),
    # Local files
    "a local file": Case(
        value="/media/here.png",
        outcomes=listed("skipped"),
        detail="a local file",
        advice="migrate_media_to_r2",
    ),
    "a FileField's local file": Case(
        value="here.png",
        row=file_name,
        outcomes=listed("skipped"),
        detail="a local file",
        advice="migrate_media_to_r2",
    ),
    "a local file that is gone": Case(
        value="/media/{key}", outcomes=listed("missing"), detail="no file at", advice="Put the file"
    ),
    "a local link that leads out": Case(
        value="/media/out.png",
        outcomes=listed("missing"),
        detail="leaves",
        advice="below its directory",
    ),
    # Our own host answers otherwise than the bucket
    "a domain that is not connected": Case(
        value=OWN,
        object=PNG,
        answer=always(404),
        outcomes=asked("not_public"),
        detail="404",
        advice="domain of PUBLIC_URL",
    ),
    "gone by its public URL": Case(
        value=OWN,
        object=PNG,
        answer=always(410),
        outcomes=asked("not_public"),
        detail="410",
        advice="domain of PUBLIC_URL",
    ),
    "a cached 404": Case(
        value=OWN,
        object=PNG,
        answer=always(404, "cf-cache-status: HIT", "Age: 70"),
        outcomes=asked("not_public"),
        detail="a cached answer",
        advice="Purge this URL",
    ),
    "forbidden by its public URL": Case(
        value=OWN,
        object=PNG,
        answer=always(403),
        outcomes=asked("not_public"),
        detail="403",
        advice="which rule",
    ),
    "a log-in before its public URL": Case(
        value=OWN,
        object=PNG,
        answer=always(401),
        outcomes=asked("not_public"),
        detail="401",
        advice="Cloudflare Access",
    ),
    "Hotlink Protection": Case(
        value=OWN,
        object=PNG,
        answer=always(403, "cf-ray: 1"),
        outcomes=asked("blocked"),
        detail="Hotlink Protection",
        advice="SITE_HOSTS",
    ),
    "our own zone challenges": Case(
        value=OWN,
        object=PNG,
        answer=always(403, "cf-mitigated: challenge"),
        outcomes=asked("blocked"),
        detail="challenges",
        advice="spare these files",
    ),
    "our own host is too busy": Case(
        value=OWN,
        object=PNG,
        answer=always(429),
        outcomes=asked("unsure"),
        detail="429",
        advice="lower --rate",
    ),
    "our own host fails": Case(
        value=OWN,
        object=PNG,
        answer=always(500),
        outcomes=asked("unsure"),
        detail="500",
        advice="Run again",
    ),
    "a page in its place": Case(
        value=OWN,
        object=PNG,
        answer=always(200, "Content-Type: text/html", body=PNG),
        outcomes=asked("wrong_type"),
        detail="served as text/html",
        advice="Store the object again",
    ),
    "a stale cached copy of another size": Case(
        value=OWN,
        object=PNG,
        answer=always(200, IMAGE, "cf-cache-status: HIT", body=PNG + b"!"),
        outcomes=asked("corrupt"),
        detail=f"the bucket holds {len(PNG):,}",
        advice="Purge this URL",
    ),
    "a part of another whole": Case(
        value=OWN,
        object=PNG,
        answer=only_get("Content-Range: bytes 0-0/9", status=206),
        outcomes=asked("corrupt"),
        detail=f"the bucket holds {len(PNG):,}",
        advice="PUBLIC_URL",
    ),
    "another ETag": Case(
        value=OWN,
        object=PNG,
        answer=always(200, IMAGE, f'ETag: "{"0" * 32}"', body=PNG),
        outcomes=asked("corrupt"),
        detail="its ETag is not that of the bucket",
        advice="PUBLIC_URL",
    ),
    "other bytes of this size": Case(
        value=OWN,
        object=PNG,
        answer=always(200, IMAGE, "Age: 9", body=PNG[:-1] + b"?"),
        outcomes=read("corrupt"),
        detail="their MD5 is not its ETag",
        advice="Purge this URL",
    ),
    # What was stored is at fault
    "a page that was stored as a picture": Case(
        value=OWN,
        object=b"<html>Not found</html>",
        outcomes=read("wrong_type"),
        detail="no known type",
        advice="Upload the right file",
    ),
    "PNG bytes named .jpg": Case(
        value="{own}/{key}.jpg",
        at="{key}.jpg",
        object=PNG,
        type="image/jpeg",
        outcomes=read("wrong_type"),
        detail="its bytes are image/png",
        advice="Upload the right file",
    ),
    "a picture cut off before it was stored": Case(
        value=OWN,
        object=PNG[:-200],
        outcomes=read("corrupt"),
        detail="does not decode to its end",
        advice=UPLOAD,
    ),
    "an animation cut off in a later frame": Case(
        value="{own}/{key}.gif",
        at="{key}.gif",
        object=GIF[: -len(GIF) // 12],
        type="image/gif",
        outcomes=read("corrupt"),
        detail="does not decode to its end",
        advice=UPLOAD,
    ),
    # Other hosts
    "dead": Case(
        value=STRANGER, answer=always(404), outcomes=strange("dead"), detail="404", advice=NAME
    ),
    "another host's URL, in a column nobody configured": Case(
        value=STRANGER, row=other_column, answer=always(404), outcomes=UNHEARD
    ),
    "gone for good, in a JSON document": Case(
        value=STRANGER,
        row=document,
        answer=always(410),
        outcomes=strange("dead"),
        detail="410",
        advice=NAME,
    ),
    "a stranger's hotlink protection": Case(
        value=STRANGER, answer=always(403), outcomes=strange("blocked"), detail="403", advice="Open"
    ),
    "a stranger's log-in": Case(
        value=STRANGER, answer=always(401), outcomes=strange("blocked"), detail="401", advice="Open"
    ),
    "withheld for legal reasons": Case(
        value=STRANGER, answer=always(451), outcomes=strange("blocked"), detail="451", advice="Open"
    ),
    "a challenge": Case(
        value=STRANGER,
        answer=always(403, "cf-mitigated: challenge"),
        outcomes=strange("blocked"),
        detail="Cloudflare challenges",
        advice="Open",
    ),
    "a challenge that says busy": Case(
        value=STRANGER,
        answer=always(503, "cf-mitigated: challenge"),
        outcomes=strange("blocked"),
        detail="Cloudflare challenges",
        advice="Open",
    ),
    "too many requests": Case(
        value=STRANGER,
        answer=always(429),
        outcomes=strange("unsure"),
        detail="429",
        advice="lower --rate",
    ),
    "a server error": Case(
        value=STRANGER, answer=always(502), outcomes=strange("unsure"), detail="502", advice="later"
    ),
    "out of service": Case(
        value=STRANGER, answer=always(503), outcomes=strange("unsure"), detail="503", advice="later"
    ),
    "an answer that says nothing": Case(
        value=STRANGER, answer=always(400), outcomes=strange("unsure"), detail="400", advice="Open"
    ),
    "reset": Case(
        value=STRANGER, answer=lambda _: [BREAK], outcomes=strange("unsure"), advice="later"
    ),
    "no HTTP": Case(
        value=STRANGER,
        answer=lambda _: [b"hello\r\n\r\n", BREAK],
        outcomes=strange("unsure"),
        advice="later",
    ),
    "no answer in time": Case(
        value=STRANGER,
        answer=silent,
        outcomes=strange("unsure"),
        detail="no answer in time",
        advice="later",
    ),
    "a redirect loop": Case(
        value=STRANGER,
        answer=circling,
        outcomes=strange("unsure"),
        detail="redirects",
        advice="redirects lead to",
    ),
    "too many redirects": Case(
        value=STRANGER,
        answer=leading_on,
        outcomes=strange("unsure"),
        detail="more than 5 redirects",
        advice="redirects lead to",
    ),
    "redirected to a private address": Case(
        value=STRANGER,
        answer=always(302, "Location: http://127.0.0.3:9/secret"),
        outcomes=strange("unsure"),
        detail="no public address",
        advice="FETCH_ALLOW",
    ),
    "redirected to what is dead": Case(
        value=STRANGER,
        answer=always(302, "Location: /nowhere.png"),
        outcomes=strange("dead"),
        detail="404",
        advice=NAME,
    ),
    "a private address": Case(
        value="http://127.0.0.3:9/{key}",
        outcomes=strange("unsure"),
        detail="no public address",
        advice="FETCH_ALLOW",
    ),
    "a host that refuses connections": Case(
        value="http://127.0.0.5:9/{key}", outcomes=strange("unsure"), advice="later"
    ),
    "a certificate nobody trusts": Case(
        value="{untrusted}/{key}",
        outcomes=strange("unsure"),
        detail="certificate",
        advice="certificate",
    ),
    "a protocol-relative URL of such a host": Case(
        value="//{untrusted_host}/{key}",
        outcomes=strange("unsure"),
        detail="certificate",
        advice="certificate",
    ),
    "a host without an address": Case(
        value="https://no-such-host.invalid/{key}",
        outcomes=strange("unsure"),
        detail="does not resolve",
        advice="how the host is spelled",
    ),
    "a Unicode host without an address": Case(
        value="https://bücher.invalid/{key}",
        outcomes=strange("unsure"),
        detail="does not resolve",
        advice="how the host is spelled",
    ),
    "a password in the URL": Case(
        value="http://user:secret@127.0.0.2/{key}",
        outcomes=strange("unsure"),
        detail="credentials",
        advice="Correct the value",
    ),
    "a stranger's page in place of a picture": Case(
        value=STRANGER,
        answer=always(200, "Content-Type: text/html; charset=utf-8", body=b"<html>"),
        outcomes=strange("wrong_type"),
        detail="served as text/html",
        advice="Open",
    ),
    "a stranger's page that claims to be a picture": Case(
        value=STRANGER,
        answer=always(200, IMAGE, body=b"<html>"),
        outcomes=strange_read("wrong_type"),
        detail="no known type",
        advice=NAME,
    ),
    "a stranger's picture cut off": Case(
        value=STRANGER,
        answer=always(200, IMAGE, body=PNG[:-200]),
        outcomes=strange_read("corrupt"),
        detail="does not decode to its end",
        advice=NAME,
    ),
    "a stranger's file of no bytes": Case(
        value=STRANGER,
        answer=always(200, IMAGE),
        outcomes=strange_read("empty"),
        detail="0 bytes",
        advice=NAME,
    ),
}

FINE_OBJECT: dict[str, Any] = {"object": PNG, "outcomes": listed("ok")}
HEALTHY = {
    "a plain URL": Case(value=OWN, **FINE_OBJECT),
    "spaces, encoded": Case(value="{own}/c%20{key}", at="c {key}", **FINE_OBJECT),
    "spaces as they are": Case(value="{own}/d {key}", at="d {key}", **FINE_OBJECT),
    "spaces around it": Case(value="  {own}/{key} ", **FINE_OBJECT),
    "Arabic": Case(value="{own}/أيقونة-{key}", at="أيقونة-{key}", **FINE_OBJECT),
    "Arabic, encoded": Case(
        value="{own}/%D8%B5%D9%88%D8%B1%D8%A9-{key}", at="صورة-{key}", **FINE_OBJECT
    ),
    "a percent sign": Case(value="{own}/100%25-{key}", at="100%-{key}", **FINE_OBJECT),
    "a plus sign": Case(value="{own}/a+{key}", at="a+{key}", **FINE_OBJECT),
    "a query": Case(value=OWN + "?v=2", **FINE_OBJECT),
    "a fragment": Case(value=OWN + "#top", **FINE_OBJECT),
    "NFD in the bucket": Case(value="{own}/café-{key}", at="cafe\u0301-{key}", **FINE_OBJECT),
    "NFD in the row": Case(value="{own}/the\u0301-{key}", at="thé-{key}", **FINE_OBJECT),
    "a FileField's name": Case(value="{key}", row=file_name, **FINE_OBJECT),
    "a FileField's name with a space": Case(
        value="e {key}", at="e {key}", row=file_name, **FINE_OBJECT
    ),
    "in a JSON document": Case(value=OWN, row=document, **FINE_OBJECT),
    "inside text": Case(value=OWN, row=text, **FINE_OBJECT),
    "in a column nobody configured": Case(value=OWN, row=other_column, **FINE_OBJECT),
    "a shared object": Case(value="{own}/shared.png", at="shared.png", **FINE_OBJECT),
    "the same shared object": Case(value="{own}/shared.png", at="shared.png", **FINE_OBJECT),
    "protocol-relative": Case(value="//{own_host}/{key}", **FINE_OBJECT),
    "HEAD refused": Case(value=OWN, answer=only_get(), **FINE_OBJECT),
    "a picture of another kind made on the way": Case(
        value=OWN,
        answer=always(200, "Content-Type: image/jpeg", "cf-polished: origSize=9", body=JPEG),
        **FINE_OBJECT,
    ),
    "compressed on the way": Case(
        value=OWN,
        answer=always(200, IMAGE, "Content-Encoding: gzip", body=gzip.compress(PNG)),
        **FINE_OBJECT,
    ),
    "a JPEG": Case(
        value="{own}/{key}.jpeg",
        at="{key}.jpeg",
        object=JPEG,
        type="image/jpeg",
        outcomes=listed("ok"),
    ),
    "an animation": Case(
        value="{own}/{key}.gif",
        at="{key}.gif",
        object=GIF,
        type="image/gif",
        outcomes=listed("ok"),
    ),
    "a stranger's picture": Case(
        value=STRANGER, answer=always(200, IMAGE, body=PNG), outcomes=strange("ok")
    ),
    "a stranger's picture of another kind": Case(
        value=STRANGER,
        answer=always(200, "Content-Type: image/jpeg", body=JPEG),
        outcomes=strange("ok"),
    ),
    "a stranger that refuses HEAD": Case(
        value=STRANGER, answer=only_get(refusal=403), outcomes=strange("ok")
    ),
    "a stranger that calls HEAD not found": Case(
        value=STRANGER, answer=only_get(refusal=404), outcomes=strange("ok")
    ),
    "redirected to where it is": Case(
        value=STRANGER, answer=always(302, "Location: /shared.png"), outcomes=strange("ok")
    ),
    "a query of a stranger": Case(
        value=STRANGER + "?w=640&fm=webp",
        answer=always(200, IMAGE, body=PNG),
        outcomes=strange("ok"),
    ),
}
CASES = {**TROUBLES, **HEALTHY}


# Where it is planted


@dataclass(slots=True, kw_only=True)
class World:
    """A bucket, its public host and strangers; and where each case has its row."""

    bucket: R2Bucket
    own: Site
    stranger: Site
    untrusted: Site
    answers: dict[str, Answering]
    served: dict[str, tuple[bytes, str]]
    """What our own host has, by key in composed form: its bytes and type."""
    rows: dict[tuple[str, str], str] = field(default_factory=dict)
    """(model, pk) -> the name of its case."""

    def plant(self, number: int, name: str, case: Case) -> None:
        key = f"{number:03d}.png"
        at = case.at.format(key=key)
        if case.object is not None:
            self.store(at, case.object, case.type)
        if case.answer is not None:
            self.answers[f"/{key}"] = case.answer
        row = case.row(case.value.format(**self.spelled(key, at)))
        self.rows[row._meta.label, str(row.pk)] = name

    def store(self, key: str, body: bytes, type: str) -> None:
        if composed(key) not in self.served:
            self.served[composed(key)] = body, type
            headers = Headers(content_type=type)
            put(self.bucket, Upload(key=key, body=body, headers=headers))

    def spelled(self, key: str, at: str) -> dict[str, str]:
        """Return what the names in a case's value stand for."""
        return {
            "key": key,
            "own": self.own.url,
            "own_host": f"127.0.0.1:{self.own.port}",
            "stranger": self.stranger.url,
            "untrusted": self.untrusted.url,
            "untrusted_host": self.untrusted.url.partition("//")[2],
            "alias": ALIAS,
            "endpoint": f"{self.bucket._client.meta.endpoint_url}/{self.bucket.name}",
            "presigned": self.bucket._client.generate_presigned_url(
                "get_object", Params={"Bucket": self.bucket.name, "Key": at}, ExpiresIn=3600
            ),
            "filling": f"{self.own.url}/".ljust(200, "a"),
        }


def composed(key: str) -> str:
    return unicodedata.normalize("NFC", key)


@contextmanager
def encrypted(host: str) -> Iterator[Site]:
    """A server whose certificate comes from nobody that is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(host).configure_cert(context)

    def serve(running, peer):
        with context.wrap_socket(peer, server_side=True) as wrapped:
            speak(running, wrapped, always(200, IMAGE, body=PNG))

    with site(host=host, scheme="https", serve=serve) as running:
        yield running


@pytest.fixture
def world(remote, settings, s3_bucket, monkeypatch) -> Iterator[World]:
    monkeypatch.setattr("r2maint.http.retry.FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr("r2maint.http.retry.PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("r2maint.http.retry._LONGEST_INTERVAL_SECONDS", 0.001)
    monkeypatch.setattr("r2maint.verify.asking.prober._ATTEMPTS", 2)
    monkeypatch.setattr("r2maint.verify.asking.prober._SECONDS", dict.fromkeys(Level, SECONDS))
    # So many troubles at one host would be enough to give it up.
    monkeypatch.setattr("r2maint.verify.asking.host_health.GIVE_UP", 1000)
    answers: dict[str, Answering] = {"/shared.png": always(200, IMAGE, body=PNG)}
    served: dict[str, tuple[bytes, str]] = {}

    def stranger_answers(request: Request) -> Iterable[bytes]:
        path = request.target.partition("?")[0]
        first = "/".join(path.split("/")[:2])
        return answers.get(first, always(404))(request)

    def own_answers(request: Request) -> Iterable[bytes]:
        path = request.target.partition("?")[0]
        body, type = served.get(composed(unquote(path[1:])), (None, ""))
        if path in answers or body is None:
            return answers.get(path, always(404))(request)
        return [reply(200, body, f"Content-Type: {type}")]

    with (
        site(own_answers) as own,
        site(stranger_answers, host="127.0.0.2") as stranger,
        encrypted("127.0.0.4") as untrusted,
    ):
        fields = {"app_icon_url": {}, "screenshots_en": {}, "description_en": {"text": True}}
        settings.R2MAINT = {
            **settings.R2MAINT,
            "PUBLIC_URL": f"{own.url}/",
            "FETCH_ALLOW": [stranger.url[7:], untrusted.url[8:], "127.0.0.5:9"],
            "FIELDS": {"appdirectory.AppSubmission": fields},
        }
        yield World(
            bucket=s3_bucket,
            own=own,
            stranger=stranger,
            untrusted=untrusted,
            answers=answers,
            served=served,
        )


def plant_everything(world: World, project: Path) -> None:
    put_into_quarantine(world, "apps/quarantined.png")
    (project / "outside.png").write_bytes(PNG)
    (project / "media" / "here.png").write_bytes(PNG)
    (project / "media" / "out.png").symlink_to(project / "outside.png")
    rule = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": "temp/"}}
    world.bucket._client.put_bucket_lifecycle_configuration(
        Bucket=world.bucket.name,
        LifecycleConfiguration={"Rules": [{**rule, "Expiration": {"Days": 3}}]},
    )
    for number, (name, case) in enumerate(CASES.items()):
        world.plant(number, name, case)


def put_into_quarantine(world: World, key: str) -> None:
    put(world.bucket, Upload(key=key, body=PNG, headers=Headers(content_type="image/png")))
    brakes = itertools.chain(*(("--override", name) for name in ("empty", "missing")))
    at_once = ("--grace", "0", "--no-second-look", "--max-delete", "100%", "--adopt")
    document = apply("purge_orphans", *at_once, *brakes)
    assert document["summary"]["quarantined"] == 1


# What comes out


def expected(level: str) -> dict[str, str]:
    at = LEVELS.index(level)
    return {name: case.outcomes[at] for name, case in CASES.items() if case.outcomes}


def faults(item: dict[str, Any], case: Case) -> Iterator[str]:
    """Yield what is wrong with how an item explains itself."""
    detail, advice = item["detail"] or "", item["advice"] or ""
    needs_nothing = item["outcome"] in ("ok", "external")
    if needs_nothing and advice:
        yield f"it advises {advice!r} where nothing is to be done"
    if not needs_nothing and not (detail and advice):
        yield f"it explains itself by {detail!r} and advises {advice!r}"
    if item["outcome"] == case.outcomes[-1]:
        for piece, told in ((case.detail, detail), (case.advice, advice)):
            if piece not in told:
                yield f"{piece!r} is not in {told!r}"


def test_the_table_has_every_outcome_and_many_odd_shapes_that_are_fine():
    assert len(TROUBLES) >= 40
    assert len(HEALTHY) >= 10
    told = {outcome for case in CASES.values() for outcome in case.outcomes}
    assert told == {outcome.value for outcome in Outcome}
    fine = {outcome.value for outcome in FINE}
    assert all(set(case.outcomes) <= fine - {"skipped"} for case in HEALTHY.values())


def test_every_trouble_comes_out_right_with_its_advice(world, remote):
    plant_everything(world, remote)

    for level in LEVELS:
        document = run("verify_urls", "--level", level, "--all", exit_code=3)

        items = {
            world.rows[item["reference"]["model"], item["reference"]["pk"]]: item
            for item in document["items"]
        }
        assert {name: item["outcome"] for name, item in items.items()} == expected(level), level
        assert len(items) == len(document["items"])
        wrong = {name: [*faults(item, CASES[name])] for name, item in items.items()}
        assert {name: found for name, found in wrong.items() if found} == {}, level
        assert "secret" not in str(document)
        judged = {f"127.0.0.1:{world.own.port}", f"127.0.0.2:{world.stranger.port}"}
        assert not judged & {*document["summary"]["cannot_judge"]}


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user who may read what is open to all, where the tests run as root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("closed", ["a file", "a directory"])
def test_a_local_file_that_may_not_be_read_is_not_called_missing(project, closed):
    (project / "media" / "icons").mkdir()
    file = project / "media" / "icons" / "a.png"
    file.write_bytes(PNG)
    target = Target(Kind.LOCAL, Via.PATH, "icons/a.png", project / "media")
    named = Reference(
        "default", "app.Model", "1", "icon", "", "/media/icons/a.png", Shape.URL, target
    )
    for directory in project.parents:
        directory.chmod(directory.stat().st_mode | 0o111)
    (file if closed == "a file" else file.parent).chmod(0)

    with nobody():
        found = judge_local(named)

    file.parent.chmod(0o700)
    assert found.outcome is Outcome.UNSURE
    assert "ermission" in found.detail
    assert found.advice == "Run as a user who may read the file."
    assert judge_local(named).outcome is Outcome.SKIPPED or closed == "a file"


def test_an_object_that_was_stored_compressed_is_not_judged_by_its_first_bytes(project, settings):
    settings.R2MAINT = {**settings.R2MAINT, "PUBLIC_URL": ""}
    for key, encoding in (("compressed.png", "gzip"), ("damaged.png", "")):
        headers = Headers(content_type="image/png", content_encoding=encoding)
        put(open_bucket(load()), Upload(key=key, body=gzip.compress(PNG), headers=headers))
        file_name(key)

    document = run("verify_urls", "--level", "content", "--all", exit_code=3)

    found = {item["key"]: item["outcome"] for item in document["items"]}
    assert found == {"compressed.png": "ok", "damaged.png": "wrong_type"}
