from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.core import checks
from django.core.management import call_command
from django.core.signals import setting_changed
from django.test import signals

from r2maint import conf
from r2maint.checks import check_settings, find_problems

# Django 4.2 warns whoever sets it; that projects still do is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:The DEFAULT_FILE_STORAGE setting is deprecated")


@pytest.fixture(autouse=True)
def unimported_backends() -> Iterator[None]:
    """Keep Django 4.2's test helpers from importing the backend that a setting names."""
    receiver = getattr(signals, "file_storage_changed", None)
    if receiver is not None:
        setting_changed.disconnect(receiver)
    yield
    if receiver is not None:
        setting_changed.connect(receiver)


ACCOUNT = "0123456789abcdef0123456789abcdef"
HOST = f"{ACCOUNT}.r2.cloudflarestorage.com"
ENVIRON = {
    "R2_ACCOUNT_ID": ACCOUNT,
    "R2_ACCESS_KEY_ID": "AKIDSECRETISH",
    "R2_SECRET_ACCESS_KEY": "s3cr3t-value",
    "R2_BUCKET_NAME": "quran-apps-submissions",
    "R2_REGION": "auto",
}
GOOD = {
    "BUCKET": "quran-apps",
    "ACCOUNT_ID": ACCOUNT,
    "ACCESS_KEY_ID": "AKIDSECRETISH",
    "SECRET_ACCESS_KEY": "s3cr3t-value",
    "PUBLIC_URL": "https://media.example.org/",
    "MANAGED_PREFIXES": ["submissions/"],
}
TUTORIAL = """
import os
from pathlib import Path

# Cloudflare R2 Configuration
if os.getenv('R2_ACCOUNT_ID'):
    # R2 is configured
    AWS_ACCESS_KEY_ID = os.getenv('R2_ACCESS_KEY_ID')
    AWS_SECRET_ACCESS_KEY = os.getenv('R2_SECRET_ACCESS_KEY')

    AWS_S3_ENDPOINT_URL = (
        f"https://{os.getenv('R2_ACCOUNT_ID')}.r2.cloudflarestorage.com"
    )

    AWS_STORAGE_BUCKET_NAME = os.getenv('R2_BUCKET_NAME', 'quran-apps')
    AWS_S3_REGION_NAME = os.getenv('R2_REGION', 'auto')

    # URL configuration
    AWS_S3_CUSTOM_DOMAIN = f"{AWS_STORAGE_BUCKET_NAME}.{os.getenv('R2_ACCOUNT_ID')}.r2.cloudflarestorage.com"
    AWS_S3_URL_PROTOCOL = 'https'
    AWS_S3_ADDRESS_STYLE = 'virtual'

    # File naming
    AWS_S3_FILE_OVERWRITE = False
    AWS_DEFAULT_ACL = 'public-read'

    # For static/media files
    DEFAULT_FILE_STORAGE = 'storages.backends.s3boto3.S3Boto3Storage'
else:
    # Fallback to local storage in development
    DEFAULT_FILE_STORAGE = 'django.core.files.storage.FileSystemStorage'
    MEDIA_ROOT = os.path.join(BASE_DIR, 'media')
    MEDIA_URL = '/media/'
"""
"""Step 3 of the tutorial most of our users start from, to the letter."""

Project = Callable[..., None]


@pytest.fixture
def project(settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Project:
    """Set a project's settings and environment from nothing."""
    for name in [name for name in os.environ if name.startswith("R2_")]:
        monkeypatch.delenv(name)

    def configure(own: Any = None, environ: dict[str, str] | None = None, **given: Any) -> None:
        settings.R2MAINT = {} if own is None else own
        settings.BASE_DIR = tmp_path
        settings.DEBUG = False
        settings.MEDIA_URL, settings.MEDIA_ROOT = "/media/", tmp_path
        for name, value in (environ or {}).items():
            monkeypatch.setenv(name, value)
        for name, value in given.items():
            setattr(settings, name, value)

    return configure


@pytest.fixture
def tutorial(project: Project, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Run the tutorial's settings in the environment it asks for."""

    def configure(environ: dict[str, str]) -> None:
        project({}, environ, MEDIA_URL="", MEDIA_ROOT="")
        namespace: dict[str, Any] = {"BASE_DIR": settings.BASE_DIR}
        exec(TUTORIAL, namespace)
        for name, value in namespace.items():
            if name.isupper():
                setattr(settings, name, value)

    return configure


def found() -> dict[str, str]:
    return {problem.id.removeprefix("r2maint."): problem.msg for problem in find_problems()}


def s3_options(**options: Any) -> dict[str, Any]:
    return {"default": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}}


def test_what_works_in_the_tutorials_settings_is_used(tutorial: Project) -> None:
    tutorial(ENVIRON)
    config = conf.load()
    connection = conf.require_connection(config)
    assert config.bucket == "quran-apps-submissions"
    assert connection.endpoint_url == f"https://{HOST}"
    assert connection.region == "auto"
    assert connection.access_key_id == "AKIDSECRETISH"
    assert connection.secret_access_key == "s3cr3t-value"
    assert config.public_url == ""


def test_the_tutorials_default_bucket_is_used_when_the_environment_names_none(
    tutorial: Project,
) -> None:
    tutorial({name: value for name, value in ENVIRON.items() if name != "R2_BUCKET_NAME"})
    config = conf.load()
    assert config.bucket == "quran-apps"
    assert conf.require_connection(config).source == "AWS_* settings"
    assert found()["W002"] == "environment (R2_*) is half set: it lacks R2_BUCKET_NAME."


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("W003", "No public URL"),
        ("W004", "AWS_S3_CUSTOM_DOMAIN is an S3 endpoint"),
        ("W005", "AWS_S3_ADDRESS_STYLE is no setting of django-storages"),
        ("W006", "DEFAULT_FILE_STORAGE is"),
        ("W007", "AWS_DEFAULT_ACL = 'public-read' has no effect"),
        ("W008", "No local media is known"),
        ("W010", "R2MAINT['MANAGED_PREFIXES'] is missing"),
        ("W012", "AWS_S3_URL_PROTOCOL is 'https'"),
    ],
)
def test_each_mistake_in_the_tutorials_settings_has_its_own_check(
    tutorial: Project, code: str, words: str
) -> None:
    tutorial(ENVIRON)
    assert words in found()[code]


def test_nothing_else_is_said_of_the_tutorials_settings(tutorial: Project) -> None:
    tutorial(ENVIRON)
    said = set(found()) - {"W013"}  # whether django-storages is installed here
    assert said == {"W003", "W004", "W005", "W006", "W007", "W008", "W010", "W012"}


def test_the_hints_of_the_tutorials_mistakes_say_what_to_write(tutorial: Project) -> None:
    tutorial(ENVIRON)
    hints = {problem.id.removeprefix("r2maint."): problem.hint for problem in find_problems()}
    assert "AWS_S3_ADDRESSING_STYLE" in hints["W005"]
    assert 'STORAGES = {"default": {"BACKEND": "storages.' in hints["W006"]
    assert 'R2MAINT["LOCAL_MEDIA"] = {"/media/"' in hints["W008"]
    assert "'https:'" in hints["W012"]
    assert "custom domain" in hints["W003"]


def test_the_tutorials_fallback_without_r2_has_local_media(
    tutorial: Project, tmp_path: Path
) -> None:
    tutorial({})
    assert conf.load().local_media == (("/media/", tmp_path / "media"),)
    assert set(found()) == {"W001", "W006"}


def test_complete_settings_give_no_message(project: Project) -> None:
    project(GOOD)
    assert find_problems() == []


def test_the_demo_settings_give_no_message() -> None:
    call_command("check", tags=["r2maint"], fail_level="WARNING")


@pytest.mark.parametrize(
    ("own", "code"),
    [
        ({"BUKCET": "x"}, "E001"),
        ({"FIELDS": {"no.Model": {}}}, "E001"),
        ({"GRACE": "1 week"}, "E002"),
        ([], "E002"),
        (None, "E002"),
    ],
)
def test_unknown_and_malformed_settings_are_errors(
    project: Project, settings: Any, own: Any, code: str
) -> None:
    project()
    settings.R2MAINT = own
    problem = find_problems()[0]
    assert (problem.id, problem.level) == (f"r2maint.{code}", checks.ERROR)


def test_every_error_is_told_at_once(project: Project) -> None:
    project({"BUKCET": "x", "GRACE": "1 week", "PUBLIC_URL": "x"})
    errors = [problem for problem in find_problems() if problem.level >= checks.ERROR]
    assert [problem.id for problem in errors] == ["r2maint.E001", "r2maint.E002", "r2maint.E002"]


@pytest.mark.parametrize(
    ("code", "words", "own", "given"),
    [
        ("W001", "no bucket", {}, {}),
        ("W002", "it lacks SECRET_ACCESS_KEY", {**GOOD, "SECRET_ACCESS_KEY": ""}, {}),
        ("W003", "No public URL", {**GOOD, "PUBLIC_URL": ""}, {}),
        ("W004", "custom_domain", GOOD, {"STORAGES": s3_options(custom_domain=f"{HOST}/b")}),
        ("W007", "default_acl", GOOD, {"STORAGES": s3_options(default_acl="public-read")}),
        ("W007", "['ACL']", GOOD, {"AWS_S3_OBJECT_PARAMETERS": {"ACL": "public-read"}}),
        ("W008", "No local media", GOOD, {"MEDIA_ROOT": ""}),
        ("W009", "pub-1.r2.dev", {**GOOD, "PUBLIC_URL": "https://pub-1.r2.dev/"}, {}),
        ("W010", "MANAGED_PREFIXES", {**GOOD, "MANAGED_PREFIXES": []}, {}),
        ("W011", "REGION is 'us-west-2'", {**GOOD, "REGION": "us-west-2"}, {}),
        ("W012", "url_protocol", GOOD, {"STORAGES": s3_options(url_protocol="http")}),
        ("W014", "/nowhere/at/all", {**GOOD, "LOCAL_MEDIA": {"/m/": "/nowhere/at/all"}}, {}),
        ("W015", "'/submissions/'", {**GOOD, "MANAGED_PREFIXES": ["/submissions/"]}, {}),
        ("W017", "/nowhere/python", {**GOOD, "PYTHON": "/nowhere/python"}, {}),
        ("W017", "no program", {**GOOD, "PYTHON": str(Path(__file__))}, {}),
        ("W016", "plain http", {**GOOD, "PUBLIC_URL": "http://media.example.org"}, {}),
    ],
)
def test_what_will_disappoint_is_a_warning_with_a_hint(
    project: Project, code: str, words: str, own: Any, given: Any
) -> None:
    project(own, **given)
    problem = next(p for p in find_problems() if p.id == f"r2maint.{code}")
    assert words in problem.msg
    assert problem.level == checks.WARNING
    assert problem.hint


def test_one_mistake_gives_one_message(project: Project) -> None:
    project({**GOOD, "REGION": "us-west-2"})
    assert list(found()) == ["W011"]


@pytest.mark.parametrize(
    ("own", "given"),
    [
        ({**GOOD, "PUBLIC_URL": "https://pub-1.r2.dev/"}, {"DEBUG": True}),
        ({**GOOD, "PUBLIC_URL": "http://127.0.0.1:8000/r2/"}, {"DEBUG": True}),
        ({**GOOD, "LOCAL_MEDIA": {}}, {"MEDIA_ROOT": ""}),
        ({**GOOD, "REGION": "us-east-1"}, {}),
        ({**GOOD, "ENDPOINT_URL": "http://127.0.0.1:9000", "ACCOUNT_ID": "", "REGION": "x"}, {}),
        (GOOD, {"AWS_SES_REGION_NAME": "eu-west-1", "AWS_ACCESS_KEY_ID": "for-mail"}),
        (GOOD, {"AWS_S3_ADDRESSING_STYLE": "virtual", "AWS_S3_URL_PROTOCOL": "https:"}),
        ({**GOOD, "BUCKET": "file:bucket"}, {}),
    ],
)
def test_what_is_right_or_meant_is_not_warned_of(project: Project, own: Any, given: Any) -> None:
    project(own, **given)
    assert find_problems() == []


def test_an_acl_is_right_where_the_storage_is_not_r2(project: Project) -> None:
    own = {**GOOD, "ACCOUNT_ID": "", "ENDPOINT_URL": "http://127.0.0.1:9000"}
    project(own, AWS_DEFAULT_ACL="public-read")
    assert find_problems() == []


def test_half_a_set_of_variables_is_named(project: Project) -> None:
    project({}, {"R2_ACCESS_KEY_ID": "x", "R2_ACCOUNT_ID": ACCOUNT})
    assert found()["W002"] == (
        "environment (R2_*) is half set: it lacks R2_SECRET_ACCESS_KEY, R2_BUCKET_NAME."
    )


def test_a_public_url_variable_on_the_endpoint_is_named(project: Project) -> None:
    project({}, {**ENVIRON, "R2_PUBLIC_URL": f"https://{HOST}/quran-apps"})
    assert "R2_PUBLIC_URL" in found()["W004"]
    assert "W003" in found()


@pytest.mark.parametrize("installed", [True, False])
def test_a_backend_needs_its_package(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: bool
) -> None:
    monkeypatch.delitem(sys.modules, "storages", raising=False)
    if installed:
        (tmp_path / "storages").mkdir()
        (tmp_path / "storages" / "__init__.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
    else:
        monkeypatch.setattr(sys, "path", [])
    project(GOOD, STORAGES=s3_options())
    assert ("W013" in found()) is not installed


@pytest.mark.skipif(django.VERSION < (5, 1), reason="DEFAULT_FILE_STORAGE still works")
def test_the_removed_setting_is_said_to_be_ignored(project: Project, settings: Any) -> None:
    project(GOOD)
    settings.DEFAULT_FILE_STORAGE = "storages.backends.s3boto3.S3Boto3Storage"
    assert found()["W006"].startswith("DEFAULT_FILE_STORAGE is ignored")


@pytest.mark.parametrize(
    "name",
    [
        "STORAGES",
        "AWS_S3_CUSTOM_DOMAIN",
        "AWS_DEFAULT_ACL",
        "AWS_S3_ENDPOINT_URL",
        "AWS_STORAGE_BUCKET_NAME",
        "AWS_S3_OBJECT_PARAMETERS",
        "AWS_S3_REGION_NAME",
        "MEDIA_URL",
        "MEDIA_ROOT",
        "R2MAINT",
        "AWS_S3_URL_PROTOCOL",
    ],
)
@pytest.mark.parametrize(
    "value",
    [None, 5, "x", [], {"default": 5}, {5: 5}, object(), {"default": {"OPTIONS": 7}}],
    ids=["None", "number", "text", "list", "dict", "odd dict", "object", "options"],
)
def test_no_setting_makes_a_check_raise(
    project: Project, settings: Any, name: str, value: Any
) -> None:
    if name == "STORAGES" and django.VERSION < (5, 1):
        pytest.skip("Django itself refuses to be configured so")
    project({})
    setattr(settings, name, value)
    for problem in check_settings():
        assert problem.id


@pytest.mark.parametrize(
    "own",
    [
        GOOD,
        {**GOOD, "API_TOKEN": "t0ken-value", "BUKCET": 1},
        {**GOOD, "SECRET_ACCESS_KEY": ["s3cr3t-value"]},
    ],
)
def test_no_secret_is_in_a_message(project: Project, own: Any) -> None:
    project(
        own,
        ENVIRON,
        AWS_SECRET_ACCESS_KEY="s3cr3t-value",
        STORAGES=s3_options(secret_key="s3cr3t-value"),
    )
    shown = repr(check_settings())
    assert not any(secret in shown for secret in ("s3cr3t-value", "AKIDSECRETISH", "t0ken-value"))


def test_a_check_that_fails_is_a_warning(project: Project, settings: Any) -> None:
    class Unreadable(dict):  # type: ignore[type-arg]
        def items(self) -> Any:
            raise RuntimeError("s3cr3t-value")

    project()
    settings.R2MAINT = Unreadable()
    assert [problem.id for problem in check_settings()] == ["r2maint.W099"]
    assert "s3cr3t-value" not in repr(check_settings())


def test_the_checks_are_registered_under_their_tag(project: Project) -> None:
    project({"BUKCET": "x"})
    assert "r2maint.E001" in [problem.id for problem in checks.run_checks(tags=["r2maint"])]
