from __future__ import annotations

import dataclasses
import os
import traceback
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage, default_storage

from r2maint import conf
from r2maint.conf import Config, ExtraReferences, FieldRule, parse_duration, require_connection
from r2maint.conf.environment import Surroundings, connection_sources
from r2maint.errors import ConfigError
from r2maint.local_files.storage_locations import StorageLocation, StoragePlace, storage_location

ACCOUNT = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
HOST = f"{ACCOUNT}.r2.cloudflarestorage.com"
SECRETS = ("AKIDSECRETISH", "s3cr3t-value", "t0ken-value")
BASE = Path("/srv/project")

OWN = {
    "BUCKET": "own-bucket",
    "ACCOUNT_ID": ACCOUNT,
    "ACCESS_KEY_ID": "AKIDSECRETISH",
    "SECRET_ACCESS_KEY": "s3cr3t-value",
}
ENVIRON = {
    "R2_BUCKET_NAME": "env-bucket",
    "R2_ACCOUNT_ID": ACCOUNT,
    "R2_ACCESS_KEY_ID": "AKIDSECRETISH",
    "R2_SECRET_ACCESS_KEY": "s3cr3t-value",
}
OPTIONS = {
    "bucket_name": "options-bucket",
    "endpoint_url": f"https://{HOST}",
    "access_key": "AKIDSECRETISH",
    "secret_key": "s3cr3t-value",
    "region_name": "auto",
}
AWS = {
    "AWS_STORAGE_BUCKET_NAME": "aws-bucket",
    "AWS_S3_ENDPOINT_URL": f"https://{HOST}",
    "AWS_ACCESS_KEY_ID": "AKIDSECRETISH",
    "AWS_SECRET_ACCESS_KEY": "s3cr3t-value",
}


def build(
    own: Any = None,
    environ: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    **django: Any,
) -> Config:
    storage = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options or {}}
    return conf.build(
        Surroundings(
            own={} if own is None else own,
            environ=environ or {},
            django={"STORAGES": {"default": storage}, **django},
            base_dir=BASE,
        )
    )


def without(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in names}


@pytest.mark.parametrize(
    ("own", "environ", "options", "aws", "source", "bucket"),
    [
        (OWN, ENVIRON, OPTIONS, AWS, "R2MAINT", "own-bucket"),
        ({}, ENVIRON, OPTIONS, AWS, "environment (R2_*)", "env-bucket"),
        ({}, {}, OPTIONS, AWS, "STORAGES['default']['OPTIONS']", "options-bucket"),
        ({}, {}, {}, AWS, "AWS_* settings", "aws-bucket"),
        ({}, without(ENVIRON, "R2_SECRET_ACCESS_KEY"), {}, AWS, "AWS_* settings", "aws-bucket"),
        ({}, without(ENVIRON, "R2_BUCKET_NAME"), {}, AWS, "AWS_* settings", "aws-bucket"),
        (
            {},
            {"R2_REGION": "auto"},
            OPTIONS,
            {},
            "STORAGES['default']['OPTIONS']",
            "options-bucket",
        ),
    ],
    ids=["own", "environment", "options", "aws", "half environment", "no bucket", "region only"],
)
def test_the_first_whole_source_gives_the_connection(
    own: Any, environ: Any, options: Any, aws: Any, source: str, bucket: str
) -> None:
    config = build(own, environ, options, **aws)
    connection = require_connection(config)
    assert (connection.source, config.bucket) == (source, bucket)
    assert connection.endpoint_url == f"https://{HOST}"
    assert (connection.region, connection.account_id) == ("auto", ACCOUNT)
    assert connection.access_key_id == "AKIDSECRETISH"
    assert connection.secret_access_key == "s3cr3t-value"


@pytest.mark.parametrize(
    ("own", "environ", "options", "aws"),
    [
        (without(OWN, "SECRET_ACCESS_KEY"), {"R2_SECRET_ACCESS_KEY": "x"}, {}, {}),
        (without(OWN, "ACCOUNT_ID"), {"R2_ACCOUNT_ID": ACCOUNT}, {}, {}),
        ({}, without(ENVIRON, "R2_ACCESS_KEY_ID"), {"access_key": "x"}, {}),
        ({}, {}, without(OPTIONS, "endpoint_url"), {"AWS_S3_ENDPOINT_URL": f"https://{HOST}"}),
        ({}, {}, without(OPTIONS, "bucket_name"), {"AWS_STORAGE_BUCKET_NAME": "b-1"}),
        ({}, {"R2_ACCOUNT_ID": ACCOUNT}, {}, without(AWS, "AWS_S3_ENDPOINT_URL")),
    ],
)
def test_sources_are_never_mixed(own: Any, environ: Any, options: Any, aws: Any) -> None:
    config = build(own, environ, options, **aws)
    assert config.connection is None
    with pytest.raises(ConfigError, match="half set: it lacks"):
        require_connection(config)


def test_half_the_credentials_in_r2maint_do_not_fall_through_to_another_source() -> None:
    config = build({"ACCESS_KEY_ID": "x", "BUCKET": "env-bucket"}, ENVIRON)
    assert config.connection is None
    assert "R2MAINT is half set: it lacks SECRET_ACCESS_KEY, ACCOUNT_ID." in config.connection_gap


def test_r2maint_may_name_the_bucket_alone() -> None:
    config = build({"BUCKET": "env-bucket"}, ENVIRON)
    assert require_connection(config).source == "environment (R2_*)"
    config = build({"BUCKET": "mine"}, without(ENVIRON, "R2_BUCKET_NAME"))
    assert (config.bucket, require_connection(config).source) == ("mine", "environment (R2_*)")


def test_keys_of_another_bucket_are_not_used() -> None:
    config = build({"BUCKET": "staging"}, ENVIRON)
    assert (config.bucket, config.connection) == ("staging", None)
    with pytest.raises(ConfigError, match="'staging', but the keys found are those of 'env-buck"):
        require_connection(config)


def test_a_directory_bucket_uses_no_connection() -> None:
    config = build({"BUCKET": "file:var/bucket"}, ENVIRON)
    assert (config.bucket, config.connection) == ("file:/srv/project/var/bucket", None)
    assert config.connection_gap == ""


@pytest.mark.parametrize(
    ("given", "bucket"),
    [
        ("file:/abs/dir/", "file:/abs/dir"),
        ("file:///abs/dir", "file:/abs/dir"),
        ("file:../up", "file:/srv/up"),
        ("file:a b/é", "file:/srv/project/a b/é"),
    ],
)
def test_a_directory_bucket_is_absolute(given: str, bucket: str) -> None:
    assert build({"BUCKET": given}).bucket == bucket


def test_nothing_set_is_no_error_until_a_bucket_is_needed() -> None:
    config = build()
    assert (config.bucket, config.connection, config.public_url) == ("", None, "")
    with pytest.raises(ConfigError, match=r"No bucket is configured\. Set BUCKET, ACCOUNT_ID"):
        require_connection(config)


@pytest.mark.parametrize(
    ("more", "endpoint", "account", "jurisdiction"),
    [
        ({}, f"https://{HOST}", ACCOUNT, ""),
        ({"JURISDICTION": "EU"}, f"https://{ACCOUNT}.eu.r2.cloudflarestorage.com", ACCOUNT, "eu"),
        ({"JURISDICTION": "default"}, f"https://{HOST}", ACCOUNT, ""),
        ({"ENDPOINT_URL": f"https://{HOST}/"}, f"https://{HOST}", ACCOUNT, ""),
        ({"ENDPOINT_URL": f"https://{HOST}/own-bucket"}, f"https://{HOST}", ACCOUNT, ""),
        ({"ENDPOINT_URL": f"https://own-bucket.{HOST}"}, f"https://{HOST}", ACCOUNT, ""),
        ({"ENDPOINT_URL": "http://127.0.0.1:9000/"}, "http://127.0.0.1:9000", "", ""),
        (
            {"ENDPOINT_URL": f"https://{ACCOUNT}.fedramp.r2.cloudflarestorage.com"},
            f"https://{ACCOUNT}.fedramp.r2.cloudflarestorage.com",
            ACCOUNT,
            "fedramp",
        ),
    ],
)
def test_the_endpoint_follows_account_and_jurisdiction(
    more: Any, endpoint: str, account: str, jurisdiction: str
) -> None:
    connection = require_connection(build({**OWN, **more}))
    assert connection.endpoint_url == endpoint
    assert (connection.account_id, connection.jurisdiction) == (account, jurisdiction)


@pytest.mark.parametrize(
    ("more", "region"),
    [
        ({}, "auto"),
        ({"REGION": "us-east-1"}, "auto"),
        ({"REGION": "eu-west-1"}, "auto"),
        ({"REGION": "eu-west-1", "ENDPOINT_URL": "http://127.0.0.1:9000"}, "eu-west-1"),
        ({"ENDPOINT_URL": "http://127.0.0.1:9000"}, "auto"),
    ],
)
def test_r2_has_the_region_auto(more: Any, region: str) -> None:
    assert require_connection(build({**OWN, **more})).region == region


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"ENDPOINT_URL": f"https://{OTHER}.r2.cloudflarestorage.com"}, "account"),
        ({"ENDPOINT_URL": f"https://{HOST}", "JURISDICTION": "eu"}, "jurisdiction"),
    ],
)
def test_an_endpoint_that_contradicts_the_account_is_not_used(more: Any, word: str) -> None:
    config = build({**OWN, **more})
    assert config.connection is None
    assert f"is of another {word} than" in config.connection_gap


def test_a_newline_behind_a_pasted_key_is_dropped() -> None:
    config = build({}, {name: f"{value}\n" for name, value in ENVIRON.items()})
    assert require_connection(config).secret_access_key == "s3cr3t-value"


def test_the_s3_names_of_django_storages_come_before_its_general_ones() -> None:
    config = build({}, {}, {}, **AWS, AWS_S3_ACCESS_KEY_ID="first", AWS_S3_SECRET_ACCESS_KEY="one")
    assert require_connection(config).access_key_id == "first"


@pytest.mark.parametrize(
    ("own", "environ", "options", "aws", "url"),
    [
        (
            {"PUBLIC_URL": "https://a.test"},
            {"R2_PUBLIC_URL": "https://b.test"},
            {},
            {},
            "https://a.test/",
        ),
        (
            {},
            {"R2_PUBLIC_URL": "https://b.test/x"},
            {"custom_domain": "c.test"},
            {},
            "https://b.test/x/",
        ),
        (
            {},
            {},
            {**OPTIONS, "custom_domain": "c.test"},
            {"AWS_S3_CUSTOM_DOMAIN": "d.test"},
            "https://c.test/",
        ),
        ({}, {}, {}, {**AWS, "AWS_S3_CUSTOM_DOMAIN": "d.test/cdn"}, "https://d.test/cdn/"),
        ({}, {}, {}, {**AWS, "AWS_S3_CUSTOM_DOMAIN": "https://d.test/"}, "https://d.test/"),
        ({}, {}, {}, {**AWS, "AWS_S3_CUSTOM_DOMAIN": f"aws-bucket.{HOST}"}, ""),
        ({}, {}, {}, {**AWS, "AWS_S3_CUSTOM_DOMAIN": f"{HOST}/aws-bucket"}, ""),
        ({}, {}, {}, {**AWS, "AWS_S3_CUSTOM_DOMAIN": "b.s3.amazonaws.com"}, ""),
        ({}, {"R2_PUBLIC_URL": f"https://{HOST}/b"}, {}, {}, ""),
        (OWN, {}, {}, {**AWS, "AWS_S3_CUSTOM_DOMAIN": "d.test"}, ""),
        ({}, {}, {}, {}, ""),
    ],
)
def test_the_public_url_is_never_an_endpoint_or_another_bucket(
    own: Any, environ: Any, options: Any, aws: Any, url: str
) -> None:
    assert build(own, environ, options, **aws).public_url == url


def test_local_media_is_what_media_url_serves() -> None:
    config = build(MEDIA_URL="/media/", MEDIA_ROOT="/srv/media")
    assert config.local_media == (("/media/", Path("/srv/media")),)


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("/", "/srv/media"),
        ("/media/", ""),
        (None, None),
        ("https://media.example.org/", "/srv/media"),
        ("https://old.example.org/", "/srv/media"),
    ],
    ids=["unset", "no root", "neither", "the bucket", "an alias"],
)
def test_what_serves_nothing_local_is_no_local_media(url: Any, root: Any) -> None:
    own = {"PUBLIC_URL": "https://media.example.org", "ALIASES": ["https://old.example.org"]}
    assert build(own, MEDIA_URL=url, MEDIA_ROOT=root).local_media == ()


def test_declared_local_media_stands_instead_longest_prefix_first() -> None:
    own = {"LOCAL_MEDIA": {"/m/": "var/m", "https://old.test/m/": Path("/old"), "/m/x/": "/x"}}
    assert build(own, MEDIA_URL="/media/", MEDIA_ROOT="/srv/media").local_media == (
        ("https://old.test/m/", Path("/old")),
        ("/m/x/", Path("/x")),
        ("/m/", Path("/srv/project/var/m")),
    )
    assert build({"LOCAL_MEDIA": {}}, MEDIA_URL="/m/", MEDIA_ROOT="/srv").local_media == ()


def test_every_setting_arrives_in_its_type() -> None:
    config = build(
        {
            "SITE_HOSTS": ["Example.org", "localhost:8000"],
            "MANAGED_PREFIXES": ("submissions/",),
            "PROTECTED": {"b*", "a*"},
            "DERIVED": ["sorl", "{stem}__sized__*"],
            "EXTRA_REFERENCES": {"files": ["src/**/*.ts"], "callables": ["a.b"]},
            "NOT_REFERENCES": {"analytics.Event": "append-only"},
            "FIELDS": {
                "AppDirectory.appsubmission": {
                    "app_icon_url": {
                        "key": "s/{tracking_id}/{hash}{ext}",
                        "max_size": [512, 256],
                        "max_bytes": 9,
                        "to": "webp",
                        "text": True,
                    },
                    "screenshots_en": {},
                }
            },
            "GRACE": "36h",
            "UNDO_WINDOW": timedelta(days=2),
            "CACHE_CONTROL": "no-store",
            "FETCH_ALLOW": ["[::1]:80"],
            "API_TOKEN": "t0ken-value",
            "ZONE_ID": "z",
            "PRICES": {"storage": "0.015"},
            "PYTHON": Path("/venv/bin/python"),
        }
    )
    assert config == Config(
        site_hosts=("example.org", "localhost:8000"),
        managed_prefixes=("submissions/",),
        protected=("a*", "b*"),
        derived=("sorl", "{stem}__sized__*"),
        extra_references=ExtraReferences(files=("src/**/*.ts",), callables=("a.b",)),
        not_references={"analytics.Event": "append-only"},
        fields={
            "appdirectory.AppSubmission": {
                "app_icon_url": FieldRule(
                    key="s/{tracking_id}/{hash}{ext}",
                    max_size=(512, 256),
                    max_bytes=9,
                    to="webp",
                    text=True,
                ),
                "screenshots_en": FieldRule(),
            }
        },
        grace=timedelta(hours=36),
        undo_window=timedelta(days=2),
        cache_control="no-store",
        fetch_allow=("[::1]:80",),
        api_token="t0ken-value",
        zone_id="z",
        prices={"storage": "0.015"},
        python="/venv/bin/python",
        base_dir=BASE,
    )


def test_every_setting_has_a_place() -> None:
    connection = {
        "ACCOUNT_ID",
        "ACCESS_KEY_ID",
        "SECRET_ACCESS_KEY",
        "JURISDICTION",
        "ENDPOINT_URL",
        "REGION",
    }
    fields = {field.name.upper() for field in dataclasses.fields(Config)}
    others = {"CONNECTION", "CONNECTION_GAP", "ACCOUNT_ID", "BASE_DIR", "RENDITIONS"}
    assert set(conf.SETTINGS) - connection == fields - others


@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        ({"BUKCET": "x"}, "R2MAINT has no setting 'BUKCET'. Did you mean 'BUCKET'?"),
        ({"bucket": "x"}, "R2MAINT has no setting 'bucket'. Did you mean 'BUCKET'?"),
        ({"ZZZ": 1}, "R2MAINT has no setting 'ZZZ'. Known are: ACCESS_KEY_ID"),
        ({7: 1}, "R2MAINT has no setting 7."),
        ([], "R2MAINT must be a dict."),
        (None, "R2MAINT must be a dict."),
        (
            {"EXTRA_REFERENCES": {"file": []}},
            "R2MAINT['EXTRA_REFERENCES'] has no kind 'file'. Did you mean 'files'?",
        ),
        (
            {"FIELDS": {"appdirectory.AppSubmission": {"app_icon_url": {"maxsize": 1}}}},
            "R2MAINT['FIELDS']['appdirectory.AppSubmission']['app_icon_url'] has no option 'maxsize'. Did you mean 'max_size'?",
        ),
        (
            {"FIELDS": {"appdirectory.AppSubmision": {}}},
            "R2MAINT['FIELDS'] names no model of this project: 'appdirectory.AppSubmision'. Did you mean 'appdirectory.AppSubmission'?",
        ),
        (
            {"FIELDS": {"appdirectory.AppSubmission": {"app_icon": {}}}},
            "R2MAINT['FIELDS']['appdirectory.AppSubmission'] has no field 'app_icon'. Did you mean 'app_icon_url'?",
        ),
    ],
)
def test_an_unknown_name_is_an_error_with_a_suggestion(own: Any, sentence: str) -> None:
    surroundings = Surroundings(own=own, environ={}, django={}, base_dir=BASE)
    with pytest.raises(ConfigError) as caught:
        conf.build(surroundings)
    assert sentence in str(caught.value)


RULE = "appdirectory.AppSubmission"
MALFORMED: list[tuple[str, Any]] = [
    ("BUCKET", 5),
    ("BUCKET", "https://x.test/b"),
    ("BUCKET", "a b"),
    ("BUCKET", "file:"),
    ("BUCKET", "file:///"),
    ("ACCOUNT_ID", "a.b/c"),
    ("ENDPOINT_URL", f"{HOST}"),
    ("ENDPOINT_URL", "s3://x"),
    ("ENDPOINT_URL", "http://[bad"),
    ("ENDPOINT_URL", "http://x.test:99999"),
    ("PUBLIC_URL", "media.example.org"),
    ("PUBLIC_URL", "ftp://media.example.org"),
    ("PUBLIC_URL", "https://"),
    ("PUBLIC_URL", "https://me:pw@media.example.org"),
    ("PUBLIC_URL", "https://media.example.org/?a=1"),
    ("PUBLIC_URL", "https://me dia.example.org/"),
    ("PUBLIC_URL", f"https://own-bucket.{HOST}/"),
    ("PUBLIC_URL", f"https://{HOST}:443/b"),
    ("PUBLIC_URL", None),
    ("ALIASES", "https://a.test/"),
    ("ALIASES", ["a.test"]),
    ("ALIASES", [5]),
    ("LOCAL_MEDIA", ["/media/"]),
    ("LOCAL_MEDIA", {"/media": "/srv"}),
    ("LOCAL_MEDIA", {"media/": "/srv"}),
    ("LOCAL_MEDIA", {"/": "/srv"}),
    ("LOCAL_MEDIA", {"/media/": 5}),
    ("LOCAL_MEDIA", {"/media/": ""}),
    ("SITE_HOSTS", ["https://example.org"]),
    ("SITE_HOSTS", ["example.org/x"]),
    ("SITE_HOSTS", "example.org"),
    ("MANAGED_PREFIXES", ["submissions"]),
    ("MANAGED_PREFIXES", "submissions/"),
    ("MANAGED_PREFIXES", [""]),
    ("MANAGED_PREFIXES", [".r2maint/"]),
    ("PROTECTED", [5]),
    ("DERIVED", ["easy_thumbnail"]),
    ("EXTRA_REFERENCES", []),
    ("EXTRA_REFERENCES", {"files": "x"}),
    ("NOT_REFERENCES", ["analytics.Event"]),
    ("NOT_REFERENCES", {"analytics.Event": ""}),
    ("FIELDS", []),
    ("FIELDS", {"AppSubmission": {}}),
    ("FIELDS", {RULE: []}),
    ("FIELDS", {RULE: {"app_icon_url": "x"}}),
    ("FIELDS", {RULE: {"app_icon_url": {"key": "a/{stem}"}}}),
    ("FIELDS", {RULE: {"app_icon_url": {"key": 5}}}),
    ("FIELDS", {RULE: {"app_icon_url": {"max_size": 512}}}),
    ("FIELDS", {RULE: {"app_icon_url": {"max_size": [0, 1]}}}),
    ("FIELDS", {RULE: {"app_icon_url": {"max_bytes": True}}}),
    ("FIELDS", {RULE: {"app_icon_url": {"max_bytes": "1k"}}}),
    ("FIELDS", {RULE: {"app_icon_url": {"to": "jpeg2000"}}}),
    ("FIELDS", {RULE: {"app_icon_url": {"text": "yes"}}}),
    ("GRACE", "7 days"),
    ("GRACE", 7),
    ("GRACE", "-1d"),
    ("GRACE", timedelta(-1)),
    ("UNDO_WINDOW", "1w"),
    ("CACHE_CONTROL", "a\nb: c"),
    ("FETCH_ALLOW", ["http://x"]),
    ("PRICES", "0.015"),
    ("PYTHON", "venv/bin/python"),
    ("PYTHON", None),
    ("ZONE_ID", 5),
    ("API_TOKEN", 5),
    ("ACCESS_KEY_ID", b"AKIDSECRETISH"),
    ("SECRET_ACCESS_KEY", ["s3cr3t-value"]),
    ("API_TOKEN", {"t": "t0ken-value"}),
]


@pytest.mark.parametrize(
    ("name", "value"), MALFORMED, ids=[f"{n}={v!r}"[:60] for n, v in MALFORMED]
)
def test_a_malformed_value_is_an_error_that_names_the_setting(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        build({name: value})
    assert caught.value.message.startswith(f"R2MAINT['{name}']")
    assert caught.value.message.endswith(".")
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert not any(secret in shown for secret in SECRETS)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"R2_PUBLIC_URL": "media.example.org"}, "R2_PUBLIC_URL"),
        ({"R2_ENDPOINT_URL": "x"}, "R2_ENDPOINT_URL"),
        ({"R2_BUCKET_NAME": "a b"}, "R2_BUCKET_NAME"),
    ],
)
def test_a_malformed_variable_is_an_error_unless_r2maint_stands_instead(
    environ: dict[str, str], name: str
) -> None:
    with pytest.raises(ConfigError, match=name):
        build({}, environ)
    assert build(
        {"PUBLIC_URL": "https://a.test/", "ENDPOINT_URL": "http://e.test", "BUCKET": "b-1"}, environ
    )


def test_a_malformed_endpoint_of_django_storages_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"The endpoint in AWS_\* settings must be an http"):
        build(**{**AWS, "AWS_S3_ENDPOINT_URL": HOST})


def test_no_secret_is_in_any_repr() -> None:
    config = build({**OWN, "API_TOKEN": "t0ken-value"})
    shown = f"{config!r} {config} {config.connection!r} {config.connection}"
    surroundings = Surroundings(own=OWN, environ=ENVIRON, django=AWS, base_dir=BASE)
    shown += repr(surroundings) + repr(connection_sources(surroundings))
    assert not any(secret in shown for secret in SECRETS)


@pytest.mark.parametrize(
    ("own", "account"),
    [
        (OWN, ACCOUNT),
        ({**OWN, "ACCOUNT_ID": "other", "ENDPOINT_URL": "https://s3.example.org"}, "other"),
        ({**OWN, "ACCOUNT_ID": "", "ENDPOINT_URL": "https://s3.example.org"}, "cloudflares"),
        ({}, ACCOUNT),
    ],
    ids=["the connection's", "R2MAINT's", "the environment's", "the connection's in R2_*"],
)
def test_the_account_is_the_connections_wherever_that_has_one(own: Any, account: str) -> None:
    environ = {**ENVIRON, "CLOUDFLARE_ACCOUNT_ID": "cloudflares"}
    assert build(own, environ).account_id == account


def test_the_configuration_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        build().bucket = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0", timedelta(0)),
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("0d", timedelta(0)),
    ],
)
def test_durations_are_read(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text", ["", "7", "d", "7 d", "7D", "-7d", "1.5h", "1d12h", "٧d", "9999999999d", "999999999d9"]
)
def test_other_durations_are_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


def test_load_reads_settings_and_environment_anew(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("R2_")]:
        monkeypatch.delenv(name)
    settings.R2MAINT = {"BUCKET": "file:b", "GRACE": "1d"}
    settings.BASE_DIR = tmp_path
    assert conf.load().bucket == f"file:{tmp_path}/b"
    settings.R2MAINT = {}
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    assert (conf.load().bucket, conf.load().grace) == ("env-bucket", timedelta(days=7))


def test_load_without_r2maint_or_base_dir(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    del settings.R2MAINT
    del settings.BASE_DIR
    assert conf.load().base_dir == tmp_path


# Storages


class FakeS3Storage:
    """django-storages' S3Storage as r2maint sees it."""

    def __init__(
        self,
        bucket_name: str = "own-bucket",
        endpoint_url: str | None = f"https://{HOST}",
        location: str = "",
    ) -> None:
        self.bucket_name = bucket_name
        self.endpoint_url = endpoint_url
        self.location = location

    @property
    def bucket(self) -> object:
        raise AssertionError("This property connects.")


class BareStorage:
    bucket_name = "own-bucket"


class BrokenStorage:
    @property
    def bucket_name(self) -> str:
        raise RuntimeError("s3cr3t-value")


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        (FakeS3Storage(), StorageLocation(place=StoragePlace.BUCKET)),
        (
            FakeS3Storage(location="media"),
            StorageLocation(place=StoragePlace.BUCKET, prefix="media/"),
        ),
        (
            FakeS3Storage(location="/a/b/"),
            StorageLocation(place=StoragePlace.BUCKET, prefix="a/b/"),
        ),
        (
            FakeS3Storage(endpoint_url=f"HTTPS://{HOST.upper()}:443/"),
            StorageLocation(place=StoragePlace.BUCKET),
        ),
        (FakeS3Storage("other"), StorageLocation(place=StoragePlace.OTHER)),
        (FakeS3Storage(endpoint_url=None), StorageLocation(place=StoragePlace.OTHER)),
        (
            FakeS3Storage(endpoint_url=f"https://{OTHER}.r2.cloudflarestorage.com"),
            StorageLocation(place=StoragePlace.OTHER),
        ),
        (
            FakeS3Storage(endpoint_url=f"https://{ACCOUNT}.eu.r2.cloudflarestorage.com"),
            StorageLocation(place=StoragePlace.OTHER),
        ),
        (BareStorage(), StorageLocation(place=StoragePlace.BUCKET)),
        (object(), StorageLocation(place=StoragePlace.OTHER)),
        (
            FileSystemStorage("/srv/x", "/x/"),
            StorageLocation(place=StoragePlace.LOCAL, root=Path("/srv/x"), base_url="/x/"),
        ),
    ],
)
def test_a_storage_is_this_bucket_a_directory_or_neither(
    storage: Any, expected: StorageLocation
) -> None:
    assert storage_location(storage, build(OWN)) == expected


def test_the_default_storage_is_seen_through(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path
    location = storage_location(default_storage, build(OWN))
    assert (location.place, location.root) == (StoragePlace.LOCAL, tmp_path)


def test_nothing_is_this_bucket_when_there_is_none() -> None:
    assert storage_location(FakeS3Storage(""), build()).place is StoragePlace.OTHER


def test_a_storage_that_cannot_be_made_is_told_without_its_message() -> None:
    with pytest.raises(ConfigError) as caught:
        storage_location(BrokenStorage(), build(OWN))
    assert "RuntimeError" in str(caught.value)
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))


def test_settings_of_apps_that_make_thumbnails_are_taken_by_name() -> None:
    built = build(THUMBNAIL_BASEDIR="thumbs", THUMBNAIL_REDIS_PASSWORD="s3cr3t-value")
    assert built.renditions == {"THUMBNAIL_BASEDIR": "thumbs"}
