"""Which field names which object, what counts where, and what would help."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone as django_timezone

from r2maint.bucket import PendingUpload, Result, Upload, open_bucket, put
from r2maint.cloudflare.analytics import Analytics, StoredDay
from r2maint.conf import load
from r2maint.control import Control
from r2maint.errors import AccessDenied, InvalidListing, NoSuchKey
from r2maint.keys import Addresses, digest
from r2maint.models import Encoding, Sighting
from r2maint.object_index.named_objects import MAX_OWNERS
from r2maint.pricing import CLOUDFLARE, GB, INFREQUENT_ACCESS, MILLION, STANDARD, storage_saving
from r2maint.purge.plan import plan_purge
from r2maint.references.discover_columns import discover
from r2maint.references.scope import Scope
from r2maint.usage.attribute import Attribution
from r2maint.usage.count import OWN, QUARANTINE, UNREFERENCED, Pending, measure_pending
from r2maint.usage.duplicates import MAX_COPIES
from r2maint.usage.earlier_runs import iter_encoded
from r2maint.usage.groups import SIZES, Count, GroupBy, size_of
from r2maint.usage.report import sections_of
from r2maint.usage.savings import EncodedPictures, Removable, find_savings
from r2maint.usage.sniff_types import Sniffer
from tests.appdirectory.models import App, AppSubmission
from tests.conftest import DATABASES
from tests.worlds.listing_only import NOW, PUBLIC, Listed, listed, measure, submission

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 2000
FIELDS = ("app_icon_url", "main_image_ar", "main_image_en", "screenshots_en")
pytestmark = [pytest.mark.django_db(databases=DATABASES), pytest.mark.usefixtures("project")]


def test_a_percent_encoded_address_counts_for_the_key_it_means():
    submission("A", app_icon_url=f"{PUBLIC}submissions/%D8%A3%20b.png")
    submission("B", app_icon_url=f"{PUBLIC}submissions/raw%2Bkey.png")
    usage = measure(
        Listed(listed("submissions/أ b.png", 10), listed("submissions/raw%2Bkey.png", 200))
    )
    assert (usage.referenced.bytes, usage.missing_references) == (210, 0)


# What is counted where


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (0, "empty"),
        (1, "under 10 KiB"),
        (10 * 2**10 - 1, "under 10 KiB"),
        (10 * 2**10, "10 to 100 KiB"),
        (2**20, "1 to 10 MiB"),
        (2**30, "1 GiB and more"),
    ],
)
def test_a_size_class_begins_with_its_name(size, name):
    assert size_of(size) == name


def test_size_classes_come_smallest_first():
    usage = measure(
        Listed(*(listed(str(size), size) for size in (2**30, 0, 5000, 2**21))), by=(GroupBy.SIZE,)
    )
    names = [group.name for group in usage.groups[GroupBy.SIZE]]
    assert names == sorted(names, key=SIZES.index)
    assert len(names) == 4


def test_what_r2maint_stores_itself_is_neither_named_nor_orphaned():
    submission("A", app_icon_url=f"{PUBLIC}.r2maint/owner")
    usage = measure(
        Listed(
            listed(".r2maint/owner", 1),
            listed(".r2maint/quarantine/t/a.png", 20),
            listed("b.png", 300),
        ),
        by=(GroupBy.MODEL,),
    )
    groups = {group.name: group.bytes for group in usage.groups[GroupBy.MODEL]}
    assert groups == {OWN: 1, QUARANTINE: 20, UNREFERENCED: 300}
    assert (usage.referenced.bytes, usage.quarantined.bytes, usage.orphans.bytes) == (0, 20, 300)


def test_shared_objects_are_told_with_their_bytes():
    url = f"{PUBLIC}submissions/a.png"
    submission("A", main_image_en=url, app_icon_url=url)
    submission("B", main_image_en=f"{PUBLIC}submissions/b.png")
    usage = measure(Listed(listed("submissions/a.png", 7), listed("submissions/b.png", 10)))
    summary = usage.summary()
    assert (summary["shared_objects"], summary["shared_bytes"]) == (1, 7)
    assert summary["referenced_bytes"] == 17


def test_empty_objects_are_counted_wherever_they_lie():
    usage = measure(
        Listed(listed("a/", 0), listed("b.png", 0), listed(".r2maint/lease", 0), listed("c", 1))
    )
    assert usage.summary()["empty_objects"] == 3
    assert "3 objects without a byte." in usage.notes


def test_duplicates_of_a_narrowed_report_are_among_what_it_counts():
    submission("A", app_icon_url=f"{PUBLIC}a.png", main_image_en=f"{PUBLIC}b.png")
    bucket = Listed(*(listed(key, 10, etag="same") for key in ("a.png", "b.png", "c.png")))
    scope = Scope(fields=("app_icon_url",))
    assert measure(bucket, scope=scope).summary()["duplicate_objects"] == 0
    assert measure(bucket).summary()["duplicate_objects"] == 2


def test_of_copies_in_infrequent_access_alone_one_stays():
    bucket = Listed(*(listed(k, 9, etag="e", storage_class=INFREQUENT_ACCESS) for k in "abc"))
    assert measure(bucket).duplicates.extra == Count(2, {INFREQUENT_ACCESS: 18})


def test_copies_in_quarantine_are_no_duplicates():
    bucket = Listed(listed("a", 9, etag="e"), listed(".r2maint/quarantine/t/a", 9, etag="e"))
    assert measure(bucket).duplicates.extra == Count()


def test_multipart_tags_are_told_apart_by_their_parts():
    bucket = Listed(
        listed("a", 9, etag="e-2"), listed("b", 9, etag="e-2"), listed("c", 9, etag="e-3")
    )
    assert measure(bucket).duplicates.extra.objects == 1


def test_sets_of_duplicates_say_what_could_go_and_which_copies_are_named():
    submission("A", app_icon_url=f"{PUBLIC}b.png", main_image_en=f"{PUBLIC}b.png")
    submission("B", app_icon_url=f"{PUBLIC}cafe\u0301.png")
    cold = {"etag": "e", "storage_class": INFREQUENT_ACCESS}
    bucket = Listed(
        listed("a.png", 9, **cold),
        listed("b.png", 9, etag="e"),
        listed("caf\u00e9.png", 9, etag="e"),
        listed("x", 10, etag="other"),
        listed("y", 10, etag="other"),
        listed("z", 10),
    )
    largest, other = measure(bucket).extra["duplicates"]
    assert largest == {
        "etag": "e",
        "object_bytes": 9,
        "objects": 3,
        "duplicate_bytes": 18,
        "referenced_objects": 2,
        "objects_by_class": {STANDARD: 2, INFREQUENT_ACCESS: 1},
        "copies": [
            {"key": "a.png", "storage_class": INFREQUENT_ACCESS, "references": 0},
            {"key": "b.png", "storage_class": STANDARD, "references": 2},
            {"key": "caf\u00e9.png", "storage_class": STANDARD, "references": 1},
        ],
    }
    assert (other["duplicate_bytes"], other["referenced_objects"]) == (10, 0)


def test_the_sets_that_are_told_are_the_largest_and_as_many_as_top_says():
    copies = [
        listed(f"{size:02d}/{at}", size, etag=f"{size}") for size in range(1, 15) for at in "ab"
    ]
    bucket = Listed(*copies)
    assert len(measure(bucket).duplicates.largest) == 10
    told = measure(bucket, top=2)
    assert [each.duplicate_bytes for each in told.duplicates.largest] == [14, 13]
    assert told.summary()["duplicate_bytes"] == sum(range(1, 15))


def test_of_many_copies_few_are_told_and_all_counted():
    bucket = Listed(*(listed(f"{at:03d}", etag="e") for at in range(MAX_COPIES + 300)))
    (told,) = measure(bucket).duplicates.largest
    assert (told.objects, len(told.copies)) == (MAX_COPIES + 300, MAX_COPIES)


# The largest


def test_the_largest_are_told_with_table_column_and_key_of_their_owner():
    row = submission("A", screenshots_en=[f"{PUBLIC}small.png", f"{PUBLIC}big.png"])
    usage = measure(Listed(listed("small.png", 1), listed("big.png", 500), listed("none", 20)))
    assert [large.key for large in usage.largest] == ["big.png", "none", "small.png"]
    big, nobodys, _ = usage.extra["largest"]
    assert big["owners"] == [
        {
            "database": "default",
            "model": "appdirectory.AppSubmission",
            "table": AppSubmission._meta.db_table,
            "pk": str(row.pk),
            "field": "screenshots_en",
            "column": "screenshots_en",
            "path": "/1",
        }
    ]
    assert (big["bytes"], big["references"]) == (500, 1)
    assert (nobodys["references"], nobodys["owners"]) == (0, [])


def test_rows_of_each_kind_of_database_are_attributed(alias):
    pictures = [f"{PUBLIC}small.png", f"{PUBLIC}%D8%A3%20b.png", f"{PUBLIC}gone.png"]
    row = AppSubmission.objects.using(alias).create(tracking_id="A", screenshots_en=pictures)
    App.objects.using(alias).create(name_en="x", main_image_en="not/moved.png")
    AppSubmission.objects.using(alias).create(tracking_id="B", app_icon_url=pictures[0])
    usage = measure(
        Listed(listed("small.png", 1), listed("أ b.png", 20), listed("none.png", 300)),
        scope=Scope(databases=(alias,)),
    )
    summary = usage.summary()
    assert (summary["referenced_bytes"], summary["shared_bytes"]) == (21, 1)
    assert (summary["missing_references"], summary["orphan_bytes"]) == (1, None)
    (owner,) = usage.largest[0].as_dict()["owners"]
    assert (owner["database"], owner["pk"], owner["path"]) == (alias, str(row.pk), "/1")


def test_a_placeholder_has_few_owners_told_and_all_counted():
    for number in range(MAX_OWNERS + 3):
        submission(str(number), app_icon_url=f"{PUBLIC}placeholder.png")
    (large,) = measure(Listed(listed("placeholder.png"))).largest
    assert (large.references, len(large.owners)) == (MAX_OWNERS + 3, MAX_OWNERS)


def test_top_says_how_many_of_the_largest():
    bucket = Listed(*(listed(f"{number:02d}", number) for number in range(30)))
    assert len(measure(bucket).largest) == 10
    assert [large.bytes for large in measure(bucket, top=3).largest] == [29, 28, 27]


# Uploads


class Unfinished:
    def __init__(self, *found, error=None) -> None:
        self.found, self.error = found, error

    def list_uploads(self, prefix):
        if self.error:
            raise self.error
        return (PendingUpload(key=str(n), upload_id="", initiated_at=NOW) for n in self.found)

    def measure_uploads(self, uploads):
        for upload in uploads:
            value = self.found[int(upload.key)] if upload.key.isdigit() else None
            yield value if isinstance(value, Result) else Result(request=upload, value=value)


def test_an_upload_that_ended_meanwhile_is_not_pending():
    sizes = {"0": 5, "1": NoSuchKey("over"), "2": AccessDenied("no")}

    class Bucket(Unfinished):
        def measure_uploads(self, uploads):
            for upload in uploads:
                told = sizes[upload.key]
                is_size = isinstance(told, int)
                yield Result(
                    request=upload,
                    value=told if is_size else None,
                    error=None if is_size else told,
                )

    assert measure_pending(Bucket(0, 1, 2), "") == Pending(uploads=2, bytes=5, unmeasured=1)


def test_a_server_that_lists_uploads_in_circles_cannot_tell():
    bucket = Unfinished(error=InvalidListing("The listing of unfinished uploads goes in circles."))
    assert measure_pending(bucket, "") is None


# Types by magic bytes


def test_sniffed_types_are_those_of_the_bytes():
    bucket = open_bucket(load())
    bodies = {"a.jpg": PNG, "b.PNG": PNG, "c.css": b"a { color: red }", "empty.gif": b""}
    for key, body in bodies.items():
        put(bucket, Upload(key=key, body=body))
    named = measure(bucket, by=(GroupBy.TYPE,))
    sniffed = measure(bucket, by=(GroupBy.TYPE,), sniff=True)
    assert types_of(named) == {"jpg": 1, "png": 1, "css": 1, "gif": 1}
    assert types_of(sniffed) == {"png": 2, "css": 1, "gif": 1}
    assert any("3 Class B requests, $0.00000108" in note for note in sniffed.notes)
    assert "1 object is of another type than the extension of the key tells." in sniffed.notes


def test_what_cannot_be_read_has_the_type_of_its_name():
    usage = measure(Listed(listed("a.png"), listed("b.png")), by=(GroupBy.TYPE,), sniff=True)
    assert types_of(usage) == {"png": 2}
    assert "2 objects could not be read; their keys tell their types." in usage.notes


def test_sniffing_in_infrequent_access_is_billed_as_retrieval_too():
    sniffer = Sniffer(Listed(bodies={"a": PNG}))
    sniffer([listed("a", 2008, storage_class=INFREQUENT_ACCESS)])
    rates = CLOUDFLARE.infrequent_access
    expected = rates.class_b / MILLION + rates.retrieval * 1024 / GB
    assert f"${expected.normalize():f} at list price" in sniffer.told(CLOUDFLARE)[0]


def types_of(usage) -> dict[str, int]:
    return {group.name: group.objects for group in usage.groups[GroupBy.TYPE]}


# What would help


def test_what_a_purge_saw_is_told_beside_what_no_field_names():
    bucket = open_bucket(load())
    put(bucket, Upload(key="submissions/in-a-text.png", body=b"x" * 30))
    put(bucket, Upload(key="submissions/nowhere.png", body=b"x" * 4))
    submission("A", description_en="see submissions/in-a-text.png there")
    before = measure(bucket)
    assert (before.orphans.bytes, before.sighted.bytes) == (34, 0)
    config = load()
    plan_purge(config, bucket)
    usage = measure(bucket)
    assert (usage.orphans.bytes, usage.sighted.bytes) == (34, 4)
    orphans = saving_of(usage, "orphans")
    assert "found 1 object of them (4 B) named nowhere" in orphans.basis


@pytest.mark.usefixtures("home")
def test_another_version_under_the_key_was_not_seen_by_the_purge():
    Sighting.objects.create(
        bucket="listed",
        key="a",
        key_digest=digest("a"),
        etag="old",
        modified_at=NOW,
        circumstances="",
        first_seen_at=NOW,
        last_seen_at=NOW,
    )
    assert measure(Listed(listed("a", etag="new"))).sighted == Count()
    assert measure(Listed(listed("a", etag="old"))).sighted.objects == 1


def test_many_versions_are_remembered_page_by_page(monkeypatch):
    monkeypatch.setattr("r2maint.usage.earlier_runs._PAGE", 2)
    names = [f"{number}.png" for number in range(7)]
    for name in names:
        encoding(name, 10, None)
    encoding("of-another-bucket.png", 10, None, bucket="another")
    assert sorted(iter_encoded("listed")) == [(name, name) for name in names]


def encoding(key: str, before: int, after: int | None, **values) -> None:
    made = {"bucket": "listed", "etag": key, "fingerprint": "webp85", "made_by": "", **values}
    Encoding.objects.create(
        key=key,
        key_digest=digest(key),
        reason=values.get("reason", "larger" if after is None else "already"),
        min_saving=5,
        bytes_before=before,
        bytes_after=after,
        source_sha256="",
        at=django_timezone.now(),
        **{name: value for name, value in made.items() if name != "reason"},
    )


@pytest.mark.usefixtures("home")
def test_a_re_encoding_is_extrapolated_from_the_pictures_of_this_bucket():
    encoding("made.webp", 800, 100, made_by="webp85")
    encoding("left.png", 200, None)
    encoding("elsewhere.webp", 10**6, None, reason="already", made_by="webp85")
    encoding("untried.png", 10**6, None, fingerprint="", reason="")
    encoding("other.webp", 10**6, 1, bucket="another")
    names = ["made.webp", "left.png", "new.JPG", "text.txt"]
    submission("A", screenshots_en=[PUBLIC + name for name in names])
    usage = measure(
        Listed(*(listed(name, 11 * GB) for name in names), listed("unnamed.png", 11 * GB))
    )
    saving = saving_of(usage, "reencoding")
    assert (saving.objects, saving.bytes) == (1, 11 * GB * 7 // 10)
    assert saving.usd_per_month == Decimal("0.105")
    assert "from 2 pictures of this bucket, of which re-encoding saved 70.0%" in saving.basis


def test_without_a_measured_ratio_nothing_is_said_of_re_encoding():
    submission("A", app_icon_url=f"{PUBLIC}a.png")
    usage = measure(Listed(listed("a.png", 99 * GB)))
    assert [each.what for each in usage.savings] == ["orphans", "quarantine", "duplicates"]


def test_what_is_remembered_is_read_page_by_page(home, monkeypatch):
    monkeypatch.setattr("r2maint.usage.earlier_runs._PAGE", 2)
    for number in range(5):
        encoding(f"{number}.png", 10, 9)
    assert sorted(iter_encoded("listed")) == [(f"{number}.png",) * 2 for number in range(5)]


def test_tables_that_are_not_there_yet_remember_nothing(monkeypatch):
    encoding("made.webp", 800, 100)
    monkeypatch.setattr("r2maint.usage.earlier_runs.table_names", lambda alias: set())
    usage = measure(Listed(listed("a.png")))
    assert saving_of(usage, "reencoding") is None


def test_each_saving_is_the_difference_of_two_bills_and_names_its_command():
    stored = {STANDARD: 25 * GB, INFREQUENT_ACCESS: 5 * GB}
    removable = Removable(
        orphans=Count(3, {STANDARD: 4 * GB}),
        sighted=Count(),
        quarantined=Count(2, {INFREQUENT_ACCESS: 2 * GB}),
        duplicates=Count(1, {STANDARD: GB}),
        pictures=Count(5, {STANDARD: 10 * GB}),
        encoded=EncodedPictures(pictures=1, bytes_before=100, bytes_after=60),
    )
    found = {each.what: each for each in find_savings(removable, stored=stored, prices=CLOUDFLARE)}
    assert {what: each.usd_per_month for what, each in found.items()} == {
        "orphans": Decimal("0.060"),
        "quarantine": Decimal("0.02"),
        "duplicates": Decimal("0.015"),
        "reencoding": storage_saving({STANDARD: 4 * GB}, stored=stored),
    }
    assert found["quarantine"].how.startswith("purge_orphans --empty-quarantine")
    assert found["duplicates"].how == ""


def test_old_objects_of_standard_could_be_in_infrequent_access():
    names = ["old.png", "cold.png", "new.png"]
    submission("A", screenshots_en=[PUBLIC + name for name in names])
    usage = measure(
        Listed(
            listed("old.png", 1010 * GB, days=90),
            listed("cold.png", 5 * GB, days=99, storage_class=INFREQUENT_ACCESS),
            listed("new.png", 10 * GB, days=89),
            listed("unnamed.png", 7 * GB, days=99),
        )
    )
    saving = saving_of(usage, "infrequent_access")
    assert (saving.objects, saving.bytes) == (1, 1010 * GB)
    assert saving.usd_per_month == 1010 * (Decimal("0.015") - Decimal("0.01"))
    assert saving.break_even.days is not None
    assert "costs $9.00 once" in saving.basis
    assert saving.as_dict()["break_even"]["transition_usd"] == Decimal(9)


def test_what_would_be_saved_is_that_of_a_month_of_what_is_stored_now():
    submission("A", app_icon_url=f"{PUBLIC}old.png")
    bucket = Listed(listed("old.png", 1010 * GB, days=99))
    small = {NOW.date() - timedelta(days=29): {STANDARD: GB}}
    grown, steady = measure(bucket, peaks=small), measure(bucket)
    assert grown.cost.total_usd < steady.cost.total_usd
    assert grown.savings == steady.savings


def test_a_day_counts_with_the_larger_of_what_reports_and_cloudflare_saw():
    days = [NOW.date() - timedelta(days=number) for number in range(1, 30)]
    counted = Analytics(
        bucket="media",
        first_day=days[-1],
        last_day=days[0],
        operations=(),
        storage=tuple(StoredDay(day=day, bytes={STANDARD: 20 * GB}, objects=1) for day in days),
        bandwidth=None,
    )
    seen = {day: {STANDARD: (40 if number % 2 else 10) * GB} for number, day in enumerate(days)}
    usage = measure(Listed(listed("a.png", 30 * GB)), analytics=counted, peaks=seen)
    # 15 days of 20, 14 of 40 and today's 30: an average of 29.67, less 10, rounded up.
    assert usage.cost.billable["standard_gb_months"] == 20


def test_within_the_free_tier_infrequent_access_never_pays():
    submission("A", app_icon_url=f"{PUBLIC}old.png")
    saving = saving_of(measure(Listed(listed("old.png", GB, days=99))), "infrequent_access")
    assert saving.usd_per_month == Decimal("-0.01")
    assert "it never pays" in saving.basis


def test_a_re_encoding_that_grew_saves_nothing():
    assert EncodedPictures(pictures=1, bytes_before=10, bytes_after=30).saved_of(100) == 0
    assert EncodedPictures().saved_of(100) == 0


def saving_of(usage, what: str):
    return next((each for each in usage.savings if each.what == what), None)


# The command


def test_the_document_has_the_largest_and_what_sniffing_found():
    bucket = open_bucket(load())
    put(bucket, Upload(key="submissions/a.jpg", body=PNG))
    submission("A", app_icon_url=f"{PUBLIC}submissions/a.jpg")
    out = StringIO()
    call_command("usage_report", "--format", "json", "--sniff", "--by", "type", stdout=out)
    document = json.loads(out.getvalue())
    assert [group["name"] for group in document["groups"]["type"]] == ["png"]
    assert document["largest"][0]["owners"][0]["field"] == "app_icon_url"


def test_text_names_the_owner_of_the_largest():
    row = submission("A", app_icon_url=f"{PUBLIC}a.png", main_image_en=f"{PUBLIC}a.png")
    put(open_bucket(load()), Upload(key="a.png", body=b"x"))
    out = StringIO()
    call_command("usage_report", stdout=out)
    assert f"appdirectory.AppSubmission {row.pk} app_icon_url and 1 more" in out.getvalue()


def test_text_tells_duplicates_with_what_names_them():
    submission("A", app_icon_url=f"{PUBLIC}a.png")
    for key in ("a.png", "b.png"):
        put(open_bucket(load()), Upload(key=key, body=b"x" * 2048))
    out = StringIO()
    call_command("usage_report", stdout=out)
    shown = out.getvalue()
    told = shown[shown.index("Stored more than once") :].splitlines()
    assert told[2].split() == ["Key", "References", "Copies", "Each", "Could", "go"]
    assert told[3].split() == ["a.png", "1", "2", "2.0", "KiB", "2.0", "KiB"]
    assert told[4].split() == ["b.png", "0"]


def test_the_storage_class_is_told_where_copies_lie_in_both():
    classes = [STANDARD, INFREQUENT_ACCESS]
    bucket = Listed(*(listed(name, etag="e", storage_class=name) for name in classes))
    rows = [row for section in sections_of(measure(bucket)) for row in section.rows]
    assert [row["storage_class"] for row in rows if "references" in row] == classes


def test_every_field_of_the_project_has_a_number():
    config = load()
    columns = discover(config, Addresses.from_config(config))
    with _attribution() as attribution:
        assert list(attribution.names) == sorted(attribution.names)
        assert Counter(attribution.names) == Counter(f"{c.model}.{c.field}" for c in columns)


# Room


@pytest.mark.parametrize("fill", ["tried", "sighted", "named otherwise"])
def test_what_lies_between_two_pages_takes_no_room(fill):
    others = [f"k{number:06}" for number in range(50_000)]
    with _attribution() as attribution:
        if fill == "named otherwise":
            attribution._late.add_spellings([(0, 0, key) for key in others])
        else:
            getattr(attribution, f"add_{fill}")((key, "etag") for key in others)
        pages = attribution.join([[listed("a")], [listed("z")]], control=Control())
        next(pages)
        tracemalloc.start()
        next(pages)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2 * 2**20


def test_a_listing_that_fails_leaves_no_file_open():
    attribution = _attribution()
    attribution._uses.extend([(f"k{number}", number, 0, "1", True) for number in range(2000)])
    with pytest.raises(AccessDenied), attribution:
        list(attribution.join(_failing(listed("k0")), control=Control()))
    assert attribution._uses._file.closed
    assert attribution._versions._seen._file.closed


def _failing(*objects):
    yield objects
    raise AccessDenied("The bucket refuses.")


def _attribution() -> Attribution:
    config = load()
    return Attribution(discover(config, Addresses.from_config(config)), narrowed=False)
