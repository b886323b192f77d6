from __future__ import annotations

import hashlib
import posixpath
import unicodedata
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from r2maint.conf import Config, Connection
from r2maint.errors import ConfigError
from r2maint.keys import (
    DEFAULT_TEMPLATE,
    Addresses,
    Kind,
    Target,
    Via,
    check_template,
    identity,
    join,
    key_from_template,
    order,
    redact,
    row_names,
    shared_template,
)

ACCOUNT = "0123456789abcdef0123456789abcdef"
ROOT = Path("/srv/media")
unhurried = settings(deadline=None)  # machines are shared
SHA = hashlib.sha256(b"content").hexdigest()


def connect(endpoint_url: str, account_id: str = "") -> Connection:
    return Connection(
        source="R2MAINT",
        access_key_id="id",
        secret_access_key="secret",
        endpoint_url=endpoint_url,
        account_id=account_id,
    )


CONFIG = Config(
    bucket="quran-apps",
    connection=connect(f"https://{ACCOUNT}.r2.cloudflarestorage.com", ACCOUNT),
    public_url="https://media.example.org/",
    aliases=("https://pub-0123.r2.dev/", "https://old.example.org/cdn/"),
    local_media=(("https://static.example.org/up loads/", Path("/srv/up")), ("/media/", ROOT)),
    site_hosts=("example.org", "dev.example.org:8000"),
)
HERE = Addresses.from_config(CONFIG)


def found(value: str, addresses: Addresses = HERE) -> tuple[Kind, str, Via] | None:
    target = addresses.locate(value)
    return None if target is None else (target.kind, target.key, target.via)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("a.png", "a.png"),
        ("a b/c d.png", "a b/c d.png"),
        ("a%20b.png", "a b.png"),
        ("a+b.png", "a+b.png"),
        ("a%2Bb.png", "a+b.png"),
        ("a%2Fb.png", "a/b.png"),
        ("a%2fb.png", "a/b.png"),
        ("it's & it%27s.png", "it's & it's.png"),
        ("%F0%9F%95%8C.png", "🕌.png"),
        ("🕌.png", "🕌.png"),
        ("قرآن.png", "قرآن.png"),
        (quote("قرآن.png"), "قرآن.png"),
        ("cafe\u0301.png", "cafe\u0301.png"),
        ("caf\u00e9.png", "caf\u00e9.png"),
        ("a.png?v=2", "a.png"),
        ("a.png#top", "a.png"),
        ("a.png?x=1#y?z", "a.png"),
        ("a%3Fb%23c.png?v=1", "a?b#c.png"),
        ("a//b.png", "a//b.png"),
        ("/a", "/a"),
        ("//a", "//a"),
        ("folder/", "folder/"),
        ("100%.png", "100%.png"),
        ("100%zz.png", "100%zz.png"),
        ("%FF.png", "%FF.png"),
        ("%00", "\0"),
        ("a\\b.png", "a\\b.png"),
        (".hidden", ".hidden"),
        ("a/.hidden", "a/.hidden"),
        ("%2E%2E/a", "../a"),
        ("%", "%"),
    ],
)
@pytest.mark.parametrize(
    ("base", "via"),
    [
        ("https://media.example.org/", Via.PUBLIC),
        ("http://media.example.org/", Via.PUBLIC),
        ("//media.example.org/", Via.PUBLIC),
        ("HTTPS://Media.Example.ORG:443/", Via.PUBLIC),
        ("http://media.example.org:80/", Via.PUBLIC),
        ("https://media.example.org./", Via.PUBLIC),
        ("https://user:pass@media.example.org/", Via.PUBLIC),
        ("https://pub-0123.r2.dev/", Via.ALIAS),
        ("http://old.example.org/cdn/", Via.ALIAS),
        (f"https://{ACCOUNT}.r2.cloudflarestorage.com/quran-apps/", Via.ENDPOINT),
        (f"https://{ACCOUNT}.eu.r2.cloudflarestorage.com/quran-apps/", Via.ENDPOINT),
        (f"https://{ACCOUNT}.moon.r2.cloudflarestorage.com/quran-apps/", Via.ENDPOINT),
        (f"https://quran-apps.{ACCOUNT}.r2.cloudflarestorage.com/", Via.ENDPOINT),
        (f"https://Quran-Apps.{ACCOUNT.upper()}.us.r2.cloudflarestorage.com/", Via.ENDPOINT),
    ],
)
def test_every_form_of_bucket_url_gives_the_key(base: str, via: Via, path: str, key: str) -> None:
    assert found(base + path) == (Kind.BUCKET, key, via)


@pytest.mark.parametrize(
    "query",
    [
        "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=ab12",
        "?x-amz-credential=x",
        "?AWSAccessKeyId=AKIA&Signature=ab%3D&Expires=1",
    ],
)
def test_a_presigned_url_is_named_as_such(query: str) -> None:
    url = f"https://{ACCOUNT}.r2.cloudflarestorage.com/quran-apps/a%20b.png{query}"
    assert found(url) == (Kind.BUCKET, "a b.png", Via.PRESIGNED)


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost:9000", "minio.internal"])
def test_a_custom_endpoint_is_recognised_path_style_and_by_virtual_host(host: str) -> None:
    config = Config(bucket="b-1", connection=connect(f"http://{host}"))
    here = Addresses.from_config(config)
    assert found(f"http://{host}/b-1/a/b.png", here) == (Kind.BUCKET, "a/b.png", Via.ENDPOINT)
    assert found(f"http://b-1.{host}/a/b.png", here) == (Kind.BUCKET, "a/b.png", Via.ENDPOINT)
    assert found(f"http://{host}/b-12/a/b.png", here) == (Kind.EXTERNAL, "", Via.URL)


def test_an_endpoint_below_a_path_is_recognised() -> None:
    here = Addresses.from_config(Config(bucket="b", connection=connect("http://gate.test/s3")))
    assert found("http://gate.test/s3/b/k", here) == (Kind.BUCKET, "k", Via.ENDPOINT)
    assert found("http://gate.test/b/k", here) == (Kind.EXTERNAL, "", Via.URL)


@pytest.mark.parametrize(
    "value",
    [
        "https://play.google.com/store/apps/details?id=org.example",
        "https://media.example.org",
        "https://media.example.org/",
        "https://media.example.org/?page=2",
        "https://media.example.org.evil.test/a.png",
        "https://evilmedia.example.org/a.png",
        "https://media.example.org:8443/a.png",
        "https://media.example.org@evil.test/a.png",
        "https://evil.test/media.example.org/a.png",
        "https://evil.test/https://media.example.org/a.png",
        "https://old.example.org/a.png",
        "https://old.example.org/cdn",
        "https://example.org/about/",
        "https://example.org/media/",
        "https://example.org/media/../secret",
        "https://example.org:8000/media/a.png",
        f"https://{ACCOUNT}.r2.cloudflarestorage.com/other-bucket/a.png",
        f"https://{ACCOUNT}.r2.cloudflarestorage.com/quran-apps",
        f"https://other.{ACCOUNT}.r2.cloudflarestorage.com/a.png",
        "https://ffffffffffffffffffffffffffffffff.r2.cloudflarestorage.com/quran-apps/a.png",
        f"https://{ACCOUNT}r2.cloudflarestorage.com/quran-apps/a.png",
        f"https://{ACCOUNT}.evilr2.cloudflarestorage.com/quran-apps/a.png",
        "//cdn.elsewhere.test/a.png",
        "https://[::1]/a.png",
    ],
)
def test_an_address_elsewhere_is_external(value: str) -> None:
    assert found(value) == (Kind.EXTERNAL, "", Via.URL)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "/",
        "//",
        "phone",
        "red/green",
        "a/b.png",
        "submissions/QAD-1/icon.png",
        "/about/",
        "/mediafiles/a.png",
        "/media",
        "/media/",
        "/media/a/",
        "// a comment",
        "//comment/x",
        "http://",
        "http://?/a.png",
        "https:///a.png",
        "https:/media.example.org/a.png",
        "ftp://media.example.org/a.png",
        "mailto:a@media.example.org/x",
        "javascript://media.example.org/%0aalert(1)",
        "See https://media.example.org/a.png",
        "media.example.org/a.png",
        "https://media.example.org/a.png\nhttps://media.example.org/b.png",
        "https://media.example.org/a.png\r\nmore",
        "/media/a.png\n/media/b.png",
        '["https://media.example.org/a.png"]',
        "https://\nmedia.example.org/a",
    ],
)
def test_other_text_is_no_address(value: str) -> None:
    assert HERE.locate(value) is None


@pytest.mark.parametrize("value", [" {} ", "{}\n", "\t{}", "\n{}\r\n"])
def test_white_space_around_a_url_is_ignored(value: str) -> None:
    url = value.format("https://media.example.org/a.png")
    assert found(url) == (Kind.BUCKET, "a.png", Via.PUBLIC)
    assert found(value.format("/media/a.png")) == (Kind.LOCAL, "a.png", Via.PATH)


def test_a_key_that_does_end_in_a_space_is_a_second_reading() -> None:
    target = HERE.locate("https://media.example.org/a.png ")
    assert target is not None
    assert target.spellings == ("a.png ",)


@pytest.mark.parametrize(
    ("path", "others"),
    [
        ("a.png", ()),
        ("a b.png", ()),
        ("a%20b.png", ("a%20b.png",)),
        ("a+b.png", ("a b.png",)),
        ("a%2Bb+c", ("a%2Bb+c", "a+b c")),
        ("a#1.png", ("a#1.png",)),
        ("what?.png", ("what?.png",)),
        ("a%20b?.png", ("a%20b", "a b?.png", "a%20b?.png")),
        ("x/../a.png", ("a.png",)),
        ("./a.png", ("a.png",)),
    ],
)
def test_other_readings_follow_the_likeliest(path: str, others: tuple[str, ...]) -> None:
    target = HERE.locate(f"https://media.example.org/{path}")
    assert target is not None
    assert target.spellings == others


def test_nfc_and_nfd_urls_have_one_identity() -> None:
    composed, decomposed = (
        HERE.locate("https://media.example.org/" + quote(unicodedata.normalize(form, "é/آ.png")))
        for form in ("NFC", "NFD")
    )
    assert composed is not None
    assert decomposed is not None
    assert composed.key != decomposed.key
    assert identity(composed.key) == identity(decomposed.key)


@pytest.mark.parametrize(
    ("value", "path", "root"),
    [
        ("/media/a b.png", "a b.png", ROOT),
        ("/media/a%20b.png", "a b.png", ROOT),
        ("/media/%D9%82.png?v=1#x", "ق.png", ROOT),
        ("/media//a//./b.png", "a/b.png", ROOT),
        ("/media//etc/passwd", "etc/passwd", ROOT),
        ("/media/a%2Fb.png", "a/b.png", ROOT),
        ("/media/100%.png", "100%.png", ROOT),
        ("https://example.org/media/a.png", "a.png", ROOT),
        ("//example.org/media/a.png", "a.png", ROOT),
        ("http://EXAMPLE.org:80/media/a.png", "a.png", ROOT),
        ("http://dev.example.org:8000/media/a.png", "a.png", ROOT),
        ("https://static.example.org/up loads/a.png", "a.png", Path("/srv/up")),
        ("https://static.example.org/up%20loads/a.png", "a.png", Path("/srv/up")),
    ],
)
def test_local_media_is_found_below_its_root(value: str, path: str, root: Path) -> None:
    target = HERE.locate(value)
    assert target is not None
    assert (target.kind, target.key, target.root) == (Kind.LOCAL, path, root)


@pytest.mark.parametrize(
    "path",
    ["..", "../a", "a/../../b", "a/..", "%2e%2e/a", "a%2f..%2fb", ".%2e/a", "a\0b", "a%00b", "."],
)
@pytest.mark.parametrize("base", ["/media/", "https://example.org/media/"])
def test_a_path_that_could_leave_its_root_is_not_local(base: str, path: str) -> None:
    target = HERE.locate(base + path)
    assert target is None or target.kind is not Kind.LOCAL


@unhurried
@given(st.text(alphabet="./%2eEfF5cab\\\0", max_size=30))
def test_no_local_path_leaves_its_root(path: str) -> None:
    target = HERE.locate("/media/" + path)
    for inside in () if target is None else (target.key, *target.spellings):
        assert posixpath.normpath(ROOT / inside).startswith(f"{ROOT}/")
        assert not inside.startswith("/")


def test_the_longest_base_wins_whichever_it_is() -> None:
    config = Config(
        bucket="b",
        public_url="https://example.org/files/",
        aliases=("https://example.org/files/old/",),
        local_media=(("/files/local/", ROOT), ("/media/", ROOT)),
        site_hosts=("example.org",),
    )
    here = Addresses.from_config(config)
    assert found("https://example.org/files/a", here) == (Kind.BUCKET, "a", Via.PUBLIC)
    assert found("https://example.org/files/old/a", here) == (Kind.BUCKET, "a", Via.ALIAS)
    assert found("https://example.org/files/local/a", here) == (Kind.LOCAL, "a", Via.PATH)
    assert found("https://example.org/media/a", here) == (Kind.LOCAL, "a", Via.PATH)
    assert found("/files/a", here) is None


def test_a_host_in_arabic_equals_its_ascii_form() -> None:
    here = Addresses.from_config(Config(bucket="b", public_url="https://صور.example.org/"))
    ascii_host = "صور.example.org".encode("idna").decode()
    assert found(f"https://{ascii_host}/a", here) == (Kind.BUCKET, "a", Via.PUBLIC)
    assert found("https://صور.example.org/a", here) == (Kind.BUCKET, "a", Via.PUBLIC)


def test_nothing_configured_makes_every_url_external() -> None:
    here = Addresses.from_config(Config())
    assert found("https://media.example.org/a.png", here) == (Kind.EXTERNAL, "", Via.URL)
    assert here.locate("/media/a.png") is None
    with pytest.raises(ConfigError, match="No public URL"):
        here.url_for("a.png")


@unhurried
@given(st.text(max_size=200))
def test_locate_takes_any_text(value: str) -> None:
    for text in (
        value,
        f"/media/{value}",
        f"//{value}",
        f"https://{value}",
        f"https://media.example.org/{value}",
    ):
        assert isinstance(HERE.locate(text), (Target, type(None)))
        assert isinstance(redact(text), str)


@unhurried
@given(st.text(alphabet=st.characters(categories=["Cs", "L", "P", "C"]), max_size=30))
def test_lone_surrogates_are_no_obstacle(value: str) -> None:
    HERE.locate(f"https://media.example.org/%41{value}")
    HERE.locate_name(value, location="x")
    assert isinstance(order(identity(value)), bytes)


KEYS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)
PUBLIC_URLS = [
    "https://media.example.org/",
    "http://127.0.0.1:8000/deep/er path/",
    "https://x.test/%D9%82/",
]


@unhurried
@given(KEYS, st.sampled_from(PUBLIC_URLS))
@example("a//b", PUBLIC_URLS[0])
@example("/a", PUBLIC_URLS[0])
@example("//a", PUBLIC_URLS[0])
@example("a/", PUBLIC_URLS[0])
@example("?", PUBLIC_URLS[0])
@example("#", PUBLIC_URLS[0])
@example("%", PUBLIC_URLS[0])
@example("%2F", PUBLIC_URLS[0])
@example("a+b c", PUBLIC_URLS[0])
@example(".", PUBLIC_URLS[0])
@example("..", PUBLIC_URLS[1])
@example("a/../b", PUBLIC_URLS[0])
@example("./..//.", PUBLIC_URLS[2])
@example("\n", PUBLIC_URLS[0])
@example(" ", PUBLIC_URLS[0])
@example("\x01\x7f\u2028", PUBLIC_URLS[0])
@example("e\u0301", PUBLIC_URLS[0])
def test_every_key_comes_back_from_its_url(key: str, public_url: str) -> None:
    here = Addresses.from_config(Config(bucket="b", public_url=public_url))
    url = here.url_for(key)
    target = here.locate(url)
    assert target is not None
    assert (target.kind, target.key, target.via) == (Kind.BUCKET, key, Via.PUBLIC)
    assert url.removeprefix(public_url).isascii()
    assert not set(url.removeprefix(public_url)) & set(" ?#&+'\"()<>\\")


@unhurried
@given(KEYS)
@example("..")
@example("a/./../b")
def test_no_segment_of_a_url_is_resolved_by_a_plain_client(key: str) -> None:
    path = urlsplit(HERE.url_for(key)).path
    assert not {".", ".."} & set(path.split("/"))


@unhurried
@given(KEYS)
def test_a_raw_url_has_the_key_among_its_readings(key: str) -> None:
    """Rows written by joining strings hold the key with nothing encoded."""
    assume(key == key.strip() and not set(key) & set("\n\r"))
    target = HERE.locate(f"https://media.example.org/{key}")
    if target is None or target.kind is Kind.EXTERNAL:
        assert key[0] in "?#"
    else:
        assert key in (target.key, *target.spellings)


def test_an_empty_key_has_no_url() -> None:
    with pytest.raises(ValueError, match="empty key"):
        HERE.url_for("")


@pytest.mark.parametrize(
    ("name", "location", "key", "others"),
    [
        ("a b.png", "", "a b.png", ()),
        ("a.png", "media", "media/a.png", ()),
        ("a.png", "media/", "media/a.png", ()),
        ("/a.png", "media", "media//a.png", ("media/a.png",)),
        ("a//b.png", "", "a//b.png", ("a/b.png",)),
        ("a\\b.png", "", "a\\b.png", ("a/b.png",)),
        ("a%20b.png", "", "a%20b.png", ("a b.png",)),
        ("a.png ", "x", "x/a.png ", ("x/a.png",)),
        ("folder/", "x", "x/folder/", ()),
    ],
)
def test_a_file_name_is_a_key_below_its_storage(
    name: str, location: str, key: str, others: tuple[str, ...]
) -> None:
    target = HERE.locate_name(name, location=location)
    assert target == Target(Kind.BUCKET, Via.NAME, key, None, others)


def test_a_file_name_can_be_a_url_an_empty_text_or_a_local_file() -> None:
    assert HERE.locate_name("https://media.example.org/a%20b.png", location="x") == HERE.locate(
        "https://media.example.org/a%20b.png"
    )
    elsewhere = HERE.locate_name("https://elsewhere.test/a.png", root=ROOT)
    assert elsewhere is not None
    assert elsewhere.kind is Kind.EXTERNAL
    assert HERE.locate_name("") is None
    assert HERE.locate_name(" ", root=ROOT) is None
    assert HERE.locate_name("a b.png", root=ROOT) == Target(Kind.LOCAL, Via.PATH, "a b.png", ROOT)
    assert HERE.locate_name("../a.png", root=ROOT) is None


def test_join_keeps_the_name_exact() -> None:
    assert join("", "/a//b ") == "/a//b "
    assert join("/media/", "/a") == "media//a"


def test_order_is_by_utf8_bytes() -> None:
    keys = ["\U0001f600", "\uff5e", "a/b", "a.b", "a-b", "a", "A"]
    assert sorted(keys, key=order) == ["A", "a", "a-b", "a.b", "a/b", "\uff5e", "\U0001f600"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("https://a.test/x.png", "https://a.test/x.png"),
        ("https://u:p%40@a.test/x", "https://a.test/x"),
        ("https://u:p@ss@a.test/x", "https://a.test/x"),
        ("https://a.test/x?X-Amz-Signature=1&v=2", "https://a.test/x?redacted&v=2"),
        ("https://a.test/x?v=2&x-amz-credential=a/b", "https://a.test/x?v=2&redacted"),
        ("https://a.test/x?Signature=1%2B&Expires=3", "https://a.test/x?redacted&Expires=3"),
        ("https://a.test/#access_token=1&b=2", "https://a.test/#redacted&b=2"),
        ("https://a.test/?a=1&amp;token=2", "https://a.test/?a=1&redacted"),
        (
            "/_next/image?url=https%3A%2F%2Fa.test%2Fx%3Fv%3D2%26X-Amz-Signature%3D1%26b%3D3&w=64",
            "/_next/image?url=https%3A%2F%2Fa.test%2Fx%3Fv%3D2%26redacted%26b%3D3&w=64",
        ),
        ("?u=https%3A%2F%2Fa.test%2F%3Fsig%3d1%2B", "?u=https%3A%2F%2Fa.test%2F%3Fredacted"),
        (
            "?u=https%253A%252F%252Fa.test%252F%253Fsig%253D1",
            "?u=https%253A%252F%252Fa.test%252F%253Fredacted",
        ),
        ("?u=https%3A%2F%2Fme%3Apass%40a.test%2Fx", "?u=https%3A%2F%2Fa.test%2Fx"),
        ("see https://a.test/?sig=1 and //u@b.test/", "see https://a.test/?redacted and //b.test/"),
        ("https://a.test/p@th?to=a@b.test", "https://a.test/p@th?to=a@b.test"),
        ("me@a.test", "me@a.test"),
    ],
)
def test_credentials_and_signatures_are_redacted(value: str, shown: str) -> None:
    assert redact(value) == shown


def make(template: str = DEFAULT_TEMPLATE, **given: object) -> str:
    values = {"app_label": "shop", "model": "item", "pk": "7", "field": "icon"}
    options = {"stem": "photo", "sha256": SHA, "ext": ".png", "fits": lambda key: True, **given}
    extra = options.pop("values", {})
    return key_from_template(template, {**values, **extra}, **options)  # type: ignore[arg-type,dict-item]


@pytest.mark.parametrize(
    ("stem", "kept"),
    [
        ("photo", "photo"),
        ("a b%c'd\"e&f", "a-b-c-d-e-f"),
        ("صورة المصحف", "صورة-المصحف"),
        ("cafe\u0301", "caf\u00e9"),
        ("नमस्ते", "नमस्ते"),
        ("v1.0_final-2", "v1.0_final-2"),
        ("../../etc/passwd", "etc-passwd"),
        ("a..b", "a.b"),
        ("\x00a\x1f\u202eb\u200d", "a-b"),
        ("🕌 mosque ☪\ufe0f", "mosque"),
    ],
)
def test_the_stem_keeps_letters_of_every_script(stem: str, kept: str) -> None:
    assert make(stem=stem) == f"shop/item/7/icon/{kept}.{SHA[:16]}.png"


def test_a_stem_with_nothing_left_leaves_no_separator() -> None:
    assert make(stem="🕌") == f"shop/item/7/icon/{SHA[:16]}.png"
    assert make("x/{stem}-{hash}{ext}", stem="") == f"x/{SHA[:16]}.png"


@pytest.mark.parametrize("value", ["..", ".", "", "/", "a/b", "../x", "//", "\\", " "])
def test_no_value_of_a_row_adds_a_segment(value: str) -> None:
    key = make("x/{name}/{hash}", values={"name": value})
    assert len(key.split("/")) == 3
    assert not {"", ".", ".."} & set(key.split("/"))


@unhurried
@given(st.text(max_size=40), st.text(max_size=300), st.integers(60, 400))
def test_keys_are_safe_and_fit(value: str, stem: str, room: int) -> None:
    def fits(key: str) -> bool:
        return len(HERE.url_for(key)) <= room + 60

    key = make("m/{name}/{stem}.{hash}{ext}", stem=stem, fits=fits, values={"name": value[:2]})
    assert len(HERE.url_for(key)) <= room + 60
    assert len(key.encode()) <= 1024
    assert unicodedata.is_normalized("NFC", key)
    assert SHA[:16] in key
    assert key.endswith(".png")
    assert not {"", ".", ".."} & set(key.split("/"))


def test_an_arabic_stem_is_cut_until_its_url_fits_a_url_field() -> None:
    key = make(stem="صورة_" * 40, fits=lambda key: len(HERE.url_for(key)) <= 200)
    assert 180 < len(HERE.url_for(key)) <= 200
    assert f".{SHA[:16]}.png" in key


def test_a_letter_is_cut_with_its_marks() -> None:
    stem = "بِسْمِ"
    lengths = {len(make(stem=stem, fits=lambda key, n=n: len(key) <= n)) for n in range(38, 60)}  # type: ignore[misc]
    bare = len(make(stem=""))
    assert lengths == {bare, bare + 3, bare + 5, bare + 7}


def test_a_key_never_passes_1024_bytes() -> None:
    assert len(make(stem="ص" * 900).encode()) <= 1024


def test_what_cannot_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="short enough"):
        make(fits=lambda key: False)
    with pytest.raises(ValueError, match="short enough"):
        make("a/{hash}{ext}", fits=lambda key: False)


@unhurried
@given(st.binary(max_size=8), st.binary(max_size=8))
def test_two_contents_never_share_a_key(first: bytes, second: bytes) -> None:
    assume(first != second)
    keys = {
        make("{hash}{ext}", sha256=hashlib.sha256(body).hexdigest()) for body in (first, second)
    }
    assert len(keys) == 2


@pytest.mark.parametrize(
    "template",
    [
        "a/{stem}{ext}",
        "{hash",
        "{hash}}",
        "a//{hash}",
        "/{hash}",
        "{hash}/",
        "../{hash}",
        "a/./{hash}",
        "{hash}?{stem}",
        "{hash}{}",
        "{hash}{0}",
        "{hash}{a.b}",
        ".r2maint/{hash}",
        "",
    ],
)
def test_a_malformed_template_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        check_template(template)


def test_an_unknown_placeholder_is_refused() -> None:
    with pytest.raises(ValueError, match="tracking_id"):
        make("{tracking_id}/{hash}")


@pytest.mark.parametrize("ext", ["png", "./x", ".p/g", "..", ". "])
def test_an_odd_extension_is_refused(ext: str) -> None:
    with pytest.raises(ValueError, match="extension"):
        make(ext=ext)


@pytest.mark.parametrize(
    ("template", "shared"),
    [
        (DEFAULT_TEMPLATE, "{app_label}/{model}/{field}/{stem}.{hash}{ext}"),
        ("s/{tracking_id}/icons/{stem}.{hash}{ext}", "s/icons/{stem}.{hash}{ext}"),
        ("s/{pk}-{stem}.{hash}{ext}", "s/{stem}.{hash}{ext}"),
        ("s/{stem}-{pk}.{hash}{ext}", "s/{stem}-{hash}{ext}"),
        ("x-{author__name}/{hash}{ext}", "{hash}{ext}"),
        ("{hash}{ext}", "{hash}{ext}"),
    ],
)
def test_a_shared_key_holds_nothing_of_one_row(template: str, shared: str) -> None:
    assert shared_template(template) == shared
    check_template(shared)


def test_row_names_are_the_columns_and_look_ups() -> None:
    template = "{app_label}/{pk}/{author__name}/{slug}/{slug}-{stem}.{hash}{ext}"
    assert row_names(template) == ("author__name", "slug")
    assert row_names(DEFAULT_TEMPLATE) == ()


@pytest.mark.parametrize(
    "rest",
    [
        "cdn-cgi/image/width=200/submissions/a.png",
        "cdn-cgi/image/format=auto,width=80/https://media.example.org/submissions/a.png",
    ],
    ids=["path", "whole URL"],
)
def test_a_transformation_by_cloudflare_is_no_key(rest):
    addresses = Addresses.from_config(
        Config(bucket="media", public_url="https://media.example.org/")
    )
    target = addresses.locate(f"https://media.example.org/{rest}")
    assert target is not None
    assert target.kind is Kind.EXTERNAL
