from __future__ import annotations

import json
import sys
import unicodedata
import uuid
from dataclasses import replace
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.urls import clear_url_caches
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2maint import conf
from r2maint.bucket import open_bucket
from r2maint.errors import BucketUnreachable, UsageError
from r2maint.journal import journal
from r2maint.journal.entries import Entry
from r2maint.keepset.find_keys import token_of
from r2maint.keys import Addresses, quote_key
from r2maint.models import Change, ChangeKind, ChangeState, Run, RunState, Sighting
from r2maint.purge.explain.plan import explain
from r2maint.purge.explain.result import KeyExplanation
from r2maint.purge.plan import plan_purge
from r2maint.purge.result import AS_CONFIGURED, PurgeOptions
from r2maint.purge.verdict import PurgeVerdict
from r2maint.rendering.admin_links import _page_of
from tests.appdirectory.models import AppSubmission
from tests.commands import apply, run
from tests.conftest import DATABASES
from tests.fakes import FakeClock, R2Fake, fail_on
from tests.oddities.models import Article, Gallery, LegacyBanner
from tests.worlds.command_runs import AT_ONCE, fill
from tests.worlds.texts import dropped

pytestmark = pytest.mark.django_db(databases=DATABASES)

KEY = "submissions/1/icon.webp"
OTHER = "submissions/1/other.webp"


@pytest.fixture
def bucket(project) -> R2Fake:
    """A bucket of two old objects, of which a row names the second."""
    made = R2Fake(clock=FakeClock())
    for key in (KEY, OTHER):
        made.add(key, key.encode(), age=timedelta(days=30))
    Article.objects.create(body=f"https://media.example.org/{OTHER}")
    return made


def ask(bucket, *texts: str, options: PurgeOptions = AS_CONFIGURED) -> list[KeyExplanation]:
    config = conf.load()
    addresses = Addresses.from_config(config)
    return list(explain(config, addresses, bucket, texts, options).items)


def ask_one(bucket, text: str = KEY, **more) -> KeyExplanation:
    (answer,) = ask(bucket, text, **more)
    return answer


def change_settings(settings, **values) -> None:
    settings.R2MAINT = {**settings.R2MAINT, **values}


def rewritten(bucket, *, state: str = RunState.FINISHED, ago: int = 1, **entry) -> str:
    """Write down a run that rewrote a value, some days ago, and return its id."""
    opened = journal.open_journal(command="reoptimize", bucket=bucket.name, options={})
    given = {"old": f"https://media.example.org/{KEY}", "old_key": KEY, "new": "x", "key": "new"}
    where = {"model": "oddities.Article", "row": "7", "field": "body"}
    made = Entry(kind=ChangeKind.REWRITE, **{**given, **where, **entry})
    opened.intend([made])
    opened.settle([made], ChangeState.DONE)
    opened.finish(state=state, summary={})
    Change.objects.update(at=bucket.now() - timedelta(days=ago))
    return opened.run_id


# What names it


def test_a_row_is_told_with_table_column_and_primary_key(bucket, alias):
    row = Article.objects.using(alias).create(body=f"see https://media.example.org/{KEY} today")
    answer = ask_one(bucket)
    (place,) = answer.places
    assert answer.verdict is PurgeVerdict.NAMED
    assert place.source == f"{alias}.oddities_article.body"
    assert place.row == {"id": str(row.pk)}
    assert place.model == "oddities.Article"
    assert answer.sentence == f"{KEY!r} is kept: {place.source} (id {row.pk}) names it."


def test_only_the_words_that_name_it_are_told(bucket, alias):
    secret = "hunter2-and-a-private-diary"
    url = f"https://user:{secret}@media.example.org/{KEY}?X-Amz-Signature={secret}"
    Article.objects.using(alias).create(body=f"{secret},{url}&{secret} {secret}")
    answer = ask_one(bucket)
    assert answer.places[0].token.text == f"https://media.example.org/{KEY}"
    assert secret not in json.dumps(answer.as_dict(), default=str)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"https://a.example/mine.jpg,https://m/{KEY}", (f"https://m/{KEY}", "url", False)),
        (f"//m/{KEY}", (f"//m/{KEY}", "url", False)),
        (f"/media/{KEY}", (f"/{KEY}", "path", False)),
        (f"x {KEY} y", (KEY, "name", False)),
        (quote_key(KEY).replace("/", "%2F"), (KEY, "name", True)),
        (f"{KEY}2 https://m/{KEY}", (f"https://m/{KEY}", "url", False)),
    ],
    ids=["list of URLs", "no scheme", "path", "name", "escaped", "longer word first"],
)
def test_the_words_are_those_of_the_last_address(text, told):
    assert token_of(text, KEY) == told


def test_a_composite_key_is_told_column_by_column(bucket, alias):
    with connections[alias].cursor() as cursor, dropped(alias, "pages"):
        cursor.execute(
            "CREATE TABLE pages (site integer, lang varchar(5), body text,"
            " PRIMARY KEY (lang, site))"
        )
        cursor.execute("INSERT INTO pages VALUES (3, 'ar', %s)", [KEY])
        (place,) = ask_one(bucket).places
    assert (place.source, dict(place.row)) == (f"{alias}.pages.body", {"lang": "ar", "site": "3"})
    assert (place.model, place.admin_url) == ("", "")


def test_a_table_without_a_key_tells_where_the_row_lies(bucket, alias):
    with connections[alias].cursor() as cursor, dropped(alias, "loose"):
        cursor.execute("CREATE TABLE loose (body text)")
        cursor.execute("INSERT INTO loose VALUES ('nothing'), (%s)", [KEY])
        (place,) = ask_one(bucket).places
    # MariaDB tells of no row where it lies.
    lies = {"default": {"rowid": "2"}, "postgres": {"ctid": "(0,2)"}, "mariadb": {}}
    assert dict(place.row) == lies[alias]


def test_a_key_that_opens_a_door_is_not_told(bucket, alias):
    with connections[alias].cursor() as cursor, dropped(alias, "visits"):
        cursor.execute("CREATE TABLE visits (session_key varchar(40) PRIMARY KEY, data text)")
        cursor.execute("INSERT INTO visits VALUES ('s3cret', %s)", [KEY])
        answer = ask_one(bucket)
    told = {"default": ["rowid"], "postgres": ["ctid"], "mariadb": []}
    assert list(answer.places[0].row) == told[alias]
    assert "s3cret" not in json.dumps(answer.as_dict(), default=str)


def test_an_unmanaged_table_is_told_with_its_model(bucket, alias):
    LegacyBanner.objects.using(alias).create(id=9, path=f"/{KEY}")
    (place,) = ask_one(bucket).places
    assert (place.model, dict(place.row)) == ("oddities.LegacyBanner", {"id": "9"})


def test_a_row_has_its_page_in_the_admin(bucket, settings):
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django.contrib.admin"]
    settings.ROOT_URLCONF = "tests.rendering.admin_urls"
    clear_url_caches()
    _page_of.cache_clear()
    pk = uuid.uuid4()
    try:
        Gallery.objects.create(id=pk, content={"a": [f"/{KEY}"]})
        (place,) = ask_one(bucket).places
        assert place.admin_url == f"/back-office/oddities/gallery/{pk}/change/"
    finally:
        sys.modules.pop("tests.rendering.admin_urls", None)
        _page_of.cache_clear()
        clear_url_caches()


def test_a_name_below_the_location_of_its_storage_is_found(bucket, monkeypatch):
    from tests.appdirectory.models import App

    class Storage:
        location = "submissions"

    monkeypatch.setattr(App._meta.get_field("application_icon"), "storage", Storage())
    row = App.objects.create(name_en="a")
    App.objects.update(application_icon="1/icon.webp")
    (place,) = ask_one(bucket).places
    assert (place.row["id"], place.token.text) == (str(row.pk), KEY)


def test_a_file_is_told_with_its_line(bucket, settings, project):
    change_settings(settings, EXTRA_REFERENCES={"files": ["*.ts"]})
    text = f'const a = 1;\n\nconst icon = "https:\\/\\/m\\/{quote_key(KEY)}";\n'
    (project / "icons.ts").write_text(text)
    (place,) = ask_one(bucket).places
    assert (place.kind, place.label) == ("file", "icons.ts:3")


def some_urls() -> list[str]:
    return ["nothing", f"https://m/{KEY}"]


def test_a_callable_is_told_by_name(bucket, settings):
    name = f"{__name__}.some_urls"
    change_settings(settings, EXTRA_REFERENCES={"callables": [name]})
    (place,) = ask_one(bucket).places
    assert (place.kind, place.label, place.token.text) == (
        "callable",
        f"callable:{name}",
        f"https://m/{KEY}",
    )


def test_an_object_that_is_read_is_told_by_its_key(bucket, settings):
    change_settings(settings, EXTRA_REFERENCES={"objects": ["apps/*.json"]})
    bucket.add("apps/7.json", json.dumps({"icon": f"/{KEY}"}).encode())
    (place,) = ask_one(bucket).places
    assert (place.kind, place.label) == ("object", "apps/7.json")
    assert ask_one(bucket, "apps/7.json").verdict is PurgeVerdict.PROTECTED


def test_a_picture_that_thousands_name_is_described_by_some_of_them(bucket):
    Article.objects.bulk_create(Article(body=f"/{KEY}") for _ in range(2500))
    assert len(ask_one(bucket).places) == 100


def test_what_is_left_out_is_told_where_nothing_else_names_it(bucket, settings, alias):
    change_settings(settings, NOT_REFERENCES={"oddities.LegacyBanner": "old log"})
    LegacyBanner.objects.using(alias).create(id=1, path=f"/{KEY}")
    answer = ask_one(bucket)
    (place,) = answer.places
    assert answer.verdict is PurgeVerdict.WAITING
    assert (place.kind, place.counts, place.reason) == ("omitted", False, "old log")
    assert "1 place that NOT_REFERENCES leaves out" in answer.sentence


# Which rule


def test_a_value_inside_the_undo_window_keeps_it_until_a_date(bucket):
    run_id = rewritten(bucket)
    answer = ask_one(bucket)
    assert answer.rule == "undo_window"
    assert answer.places[0].until == bucket.now() + timedelta(days=29)
    assert f"only by history: an undo of run {run_id} needs it until 2026-01-30" in answer.sentence
    (event,) = answer.history
    assert answer.as_dict()["stopped_naming"]["run_id"] == event.change.run_id == run_id


def test_a_run_that_has_not_ended_keeps_its_new_key(bucket):
    rewritten(bucket, state=RunState.STOPPED, old="x", old_key="", new=f"/{KEY}", key=KEY, ago=40)
    answer = ask_one(bucket)
    assert (answer.verdict, answer.rule) == (PurgeVerdict.NAMED, "unfinished_run")


def test_a_run_that_stopped_naming_it_is_told_after_the_window_too(bucket):
    run_id = rewritten(bucket, old=f"https://forgotten.example/{KEY}", old_key="", ago=90)
    answer = ask_one(bucket)
    assert answer.rule == "waiting"
    assert answer.as_dict()["stopped_naming"]["run_id"] == run_id


def test_a_rendition_is_told_with_its_original_and_pattern(bucket, settings):
    change_settings(settings, DERIVED=["{stem}-big*", "{stem}__sized__*"])
    bucket.add("submissions/1/other__sized__9.webp", age=timedelta(days=30))
    answer = ask_one(bucket, "submissions/1/other__sized__9.webp")
    assert (answer.verdict, answer.original, answer.pattern) == (
        PurgeVerdict.DERIVED,
        OTHER,
        "{stem}__sized__*",
    )
    assert [place.source for place in answer.original_places] == ["default.oddities_article.body"]


def test_r2maints_own_objects_are_never_purged(bucket):
    bucket.add(".r2maint/owner", b"{}")
    assert "r2maint's own" in ask_one(bucket, ".r2maint/owner").sentence


def test_the_first_look_and_the_due_date_are_told(bucket):
    plan_purge(conf.load(), bucket)
    bucket.clock.move(timedelta(days=3))
    answer = ask_one(bucket)
    assert answer.seen is not None
    assert answer.seen.counts
    assert answer.item.due_at == answer.seen.first_seen_at + timedelta(days=7)
    Sighting.objects.update(circumstances="others")
    assert not ask_one(bucket).seen.counts


def test_a_removed_object_is_told_with_the_way_back(bucket, project):
    made = open_bucket(conf.load())
    fill(made, KEY, OTHER)
    run_id = apply("purge_orphans", *AT_ONCE, "--adopt")["run_id"]
    answer = ask_one(made)
    assert answer.verdict is PurgeVerdict.ABSENT
    assert answer.restore == f"manage.py r2_runs {run_id} --undo"
    assert answer.restore in answer.sentence
    assert answer.as_dict()["bytes"] is None


def test_a_key_that_is_gone_is_told_with_what_names_it(bucket):
    Article.objects.create(body="/submissions/9/gone.webp")
    answer = ask_one(bucket, "submissions/9/gone.webp")
    assert answer.verdict is PurgeVerdict.ABSENT
    assert "not in the bucket, although default.oddities_article.body" in answer.sentence


# Which key is meant


@pytest.mark.parametrize(
    "text",
    [
        "https://media.example.org/{}?v=2",
        "https://pub-0123456789abcdef.r2.dev/{}",
        "https://nobody.example/media/{}",
        "/media/{}",
        "/{}",
        " {} ",
        "{}",
    ],
)
def test_a_key_may_be_given_as_an_address(bucket, text):
    key = "submissions/1/صورة 1.webp"
    bucket.add(key, age=timedelta(days=30))
    answer = ask_one(bucket, text.format(quote_key(key)))
    assert (answer.key, answer.verdict) == (key, PurgeVerdict.WAITING)
    assert "was taken for the key" in answer.asked.remark


def test_an_exact_key_wins_over_what_it_may_be_encoded_from(bucket):
    bucket.add("submissions/1/a%20b.webp")
    bucket.add("submissions/1/a b.webp")
    assert ask_one(bucket, "submissions/1/a%20b.webp").key == "submissions/1/a%20b.webp"
    assert ask_one(bucket, "submissions/1/a%20b.webp").asked.remark == ""


def test_a_url_of_no_file_is_a_usage_error(bucket):
    with pytest.raises(UsageError, match="names no key"):
        ask(bucket, "https://media.example.org")


def test_other_spellings_are_told_with_what_they_differ_in(bucket):
    for key in ("submissions/1/ICON.webp", "submissions/1/icon%2Ewebp"):
        bucket.add(key)
    found = {each.stored.key: each.differs for each in ask_one(bucket).spellings}
    assert found == {"submissions/1/ICON.webp": "case", "submissions/1/icon%2Ewebp": "encoding"}


def test_a_decomposed_spelling_is_the_same_object(bucket):
    key = unicodedata.normalize("NFD", "submissions/1/é.webp")
    bucket.add(key, age=timedelta(days=30))
    Article.objects.create(body="/submissions/1/é.webp")
    answer = ask_one(bucket, "submissions/1/é.webp")
    assert (answer.verdict, answer.key, answer.spellings) == (PurgeVerdict.NAMED, key, ())


# The same as a plan


def expected(bucket, options: PurgeOptions = AS_CONFIGURED) -> dict[str, tuple]:
    """Return what a plan makes of every object of the bucket."""
    planned = plan_purge(conf.load(), bucket, replace(options, everything=True))
    found = {i.object.key: (i.verdict, i.due_at) for i in planned.items}
    keys = [key for key in bucket.objects if not key.startswith(".r2maint/")]
    return {key: found.get(key, (PurgeVerdict.NAMED, None)) for key in keys}


def explained(bucket, options: PurgeOptions = AS_CONFIGURED) -> dict[str, tuple]:
    """Return the same, asked about one by one."""
    keys = [key for key in bucket.objects if not key.startswith(".r2maint/")]
    answers = {key: ask_one(bucket, key, options=options) for key in keys}
    return {key: (each.verdict, each.item.due_at) for key, each in answers.items()}


NAMES = st.sampled_from(
    ["a.webp", "a.webp-old", "a.webp+x", "a", "a+x", "a b.webp", "é.png", "a-9.webp", "A.webp"]
)
KEYS = st.builds(
    "{}{}".format, st.sampled_from(["submissions/1/", "apps/", "elsewhere/", ""]), NAMES
)
TEXTS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["https://m.example/", "/", "x ", "elsewhere/"]),
    KEYS,
    st.sampled_from(["", "?v=1", "+x", "-old", ".", " c", "%20b.webp"]),
)


@pytest.mark.thorough
@given(
    keys=st.dictionaries(KEYS, st.integers(0, 30), min_size=2, max_size=6),
    texts=st.lists(TEXTS, max_size=4),
    prefixes=st.sampled_from([["submissions/", "apps/"], []]),
    looked=st.booleans(),
)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_verdict_is_that_of_the_plan(project, settings, keys, texts, prefixes, looked):
    change_settings(
        settings,
        MANAGED_PREFIXES=prefixes,
        PROTECTED=["apps/a*"],
        DERIVED=["{stem}-*"],
        EXTRA_REFERENCES={"objects": ["apps/*.json"]},
    )
    for model in (Article, Sighting, Run, Change):
        model.objects.all().delete()
    bucket = R2Fake(clock=FakeClock())
    bucket.add("apps/index.json", b'["/submissions/1/a-9.webp"]')
    for key, age in keys.items():
        bucket.add(key, age=timedelta(days=age))
    Article.objects.bulk_create(Article(body=text) for text in ["nothing", *texts])
    if looked:
        plan_purge(conf.load(), bucket)
        bucket.clock.move(timedelta(days=8))
    assert explained(bucket) == expected(bucket)


def test_a_longer_key_is_meant_in_place_of_a_shorter_one(bucket):
    bucket.add(f"{KEY}-old")
    Article.objects.create(body=f"https://m/{KEY}-old")
    assert explained(bucket) == expected(bucket)
    assert ask_one(bucket).verdict is PurgeVerdict.WAITING


def test_a_default_of_a_model_is_told_as_the_place_that_names(bucket, monkeypatch):
    monkeypatch.setattr(Article._meta.get_field("body"), "default", f"https://m/{KEY}")
    (place,) = ask_one(bucket).places
    assert (place.kind, place.source) == ("default", "model defaults")
    assert place.label == "default or choices of oddities.Article.body"


def test_a_plus_parts_words_whatever_other_keys_hold(bucket):
    bucket.add("submissions/1/a")
    Article.objects.create(body="https://m/submissions/1/a+x")
    assert explained(bucket) == expected(bucket)
    assert ask_one(bucket, "submissions/1/a").verdict is PurgeVerdict.NAMED


def test_no_listing_of_the_whole_bucket_is_needed(bucket):
    for number in range(50):
        bucket.add(f"submissions/{number}/more.webp")
    bucket.page_size = 10
    ask(bucket, KEY, OTHER)
    listed = [call for call in bucket.calls if call[0] == "list"]
    assert len(listed) <= 8


def test_nothing_is_changed(bucket):
    before = dict(bucket.objects)
    ask(bucket, KEY, OTHER, "submissions/9/gone.webp")
    assert bucket.objects == before
    assert not Sighting.objects.exists()
    assert not Run.objects.exists()


def test_a_bucket_that_does_not_answer_gives_no_answer(bucket):
    bucket.before = fail_on("head")
    with pytest.raises(BucketUnreachable):
        ask(bucket, KEY)


# The command


@pytest.fixture
def site(project):
    made = open_bucket(conf.load())
    fill(made, KEY, OTHER, "elsewhere/a.txt")
    AppSubmission.objects.create(tracking_id="QAD-1", app_icon_url=f"https://m.example/{OTHER}")
    return made


def test_the_document_has_an_item_of_the_known_shape_for_each_key(site):
    document = run("purge_orphans", "--explain", KEY, "--explain", OTHER)
    first, second = document["items"]
    assert (first["key"], first["bytes"], first["verdict"]) == (KEY, len(KEY), "too_young")
    assert {"modified_at", "action", "due_at", "reason"} <= first.keys()
    assert (second["verdict"], second["action"]) == ("named", "kept")
    assert second["places"][0]["row"] == {"id": str(AppSubmission.objects.get().pk)}
    assert document["summary"]["asked"] == 2


def test_the_text_leads_with_the_verdict(site):
    out = StringIO()
    call_command("purge_orphans", "--explain", OTHER, stdout=out, stderr=StringIO())
    first, *rest = out.getvalue().splitlines()
    assert f"{OTHER!r} is kept: default.app_submissions.app_icon_url" in first
    assert any("Named in" in line for line in rest)


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_every_key_is_a_line(site, format):
    out = StringIO()
    call_command("purge_orphans", explain=[KEY, "elsewhere/a.txt"], format=format, stdout=out)
    lines = [line for line in out.getvalue().splitlines() if KEY in line or "elsewhere" in line]
    assert len(lines) == 2


def test_check_finds_what_the_next_purge_removes(site):
    run("purge_orphans", "--explain", KEY, "--check")
    run("purge_orphans", "--explain", KEY, "--check", *AT_ONCE[:3], exit_code=3)


@pytest.mark.parametrize(
    "more", [["--apply", "--no-input"], ["--hard"], ["--adopt"], ["--limit", "1"]]
)
def test_explaining_goes_with_nothing_that_acts(site, more):
    with pytest.raises(CommandError, match="--explain does not go with") as raised:
        call_command("purge_orphans", "--explain", KEY, *more, stdout=StringIO())
    assert raised.value.returncode == 2


def test_an_empty_key_is_a_usage_error(site):
    with pytest.raises(CommandError) as raised:
        call_command("purge_orphans", "--explain=", stdout=StringIO(), stderr=StringIO())
    assert raised.value.returncode == 2
