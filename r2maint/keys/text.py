"""What a piece of text means as a key, and how keys are quoted, joined and compared. Pure.

R2 takes two keys for one object when their NFC forms are equal: keys are compared by `identity`.
Source: developers.cloudflare.com/r2/reference/unicode-interoperability/
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import unicodedata
from urllib.parse import quote, unquote, unquote_to_bytes

URL = re.compile(r"(?:(https?):)?//([^/?#\\\s]+)", re.IGNORECASE)
"""Scheme ("" when the URL begins with "//") and host of a URL; the path follows."""
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_.~/-]*")
_DOTS = re.compile(r"(?:^|(?<=/))\.{1,2}(?=/|$)")
_SPECIAL = re.compile(r"[%+?#\x00-\x1f\x7f]")
_NAME = re.compile(
    r"(?![a-z][a-z0-9+.\-]*:|www\.|[^/]+\.[a-z]{2,}/|[/.~#?&\s])"
    r"[^\x00-\x1f\x7f<>{}|\"\\*]*[^\s./]\.(?=[0-9]*[a-z])([a-z0-9]{1,8})",
    re.IGNORECASE,
)
_PAGES = {"html", "htm", "xhtml", "php", "asp", "aspx", "jsp", "cgi"}
_NO_EXTENSIONS = _PAGES | {"com", "org", "net", "edu", "gov", "mil", "info", "biz"}
"""What pages and hosts end in."""
_EMAIL = re.compile(r"^[^/@]+@(?![0-9.]+x\.)[^/@]+$")
"""An address of mail, and no picture for screens of high density ("icon@2x.png")."""
_SECRET_NAMES = (
    r"x-amz-[\w-]*|x-goog-[\w-]*|awsaccesskeyid|key-pair-id|policy|sig|signature|[\w-]*token[\w-]*"
    r"|[\w-]*secret[\w-]*|pass(?:word|wd)?|(?:api|access)[_-]?key|auth|authorization|jwt|verify|key"
)
_SECRET_PAIR = re.compile(rf"([?&;#])(?:amp;)?(?:{_SECRET_NAMES})=[^&;#\s\"'<>]*", re.IGNORECASE)
_ENCODED_PAIR = re.compile(
    rf"(%(?:25)*(?:3f|26|23|3b))(?:{_SECRET_NAMES})%(?:25)*3d(?:(?!%(?:25)*(?:26|23))[^&;#\s\"'<>])*",
    re.IGNORECASE,
)
"""The same of a URL inside another one's query, such as a resizing proxy takes."""
_ENCODINGS = 3
"""How often careless writers encode the same text."""
_USERINFO = re.compile(r"(//)[^/?#@\s\"'<>]*(?:@[^/?#@\s\"'<>]*)*@")
_ENCODED_USERINFO = re.compile(
    r"(%(?:25)*2f%(?:25)*2f)(?:(?!%(?:25)*(?:2f|3f|23))[^/?#&\s\"'<>])*%(?:25)*40", re.IGNORECASE
)


def identity(key: str) -> str:
    """Return the form in which R2 compares keys: NFC."""
    return key if key.isascii() else unicodedata.normalize("NFC", key)


def is_composed(key: str) -> bool:
    """Tell whether a key is its own identity, as almost all are."""
    return key.isascii() or unicodedata.is_normalized("NFC", key)


def order(key: str) -> bytes:
    """Return what R2 sorts a listing by: the key's UTF-8 bytes."""
    return key.encode("utf-8", "surrogatepass")


def digest(key: str) -> str:
    """Return what tables look a key up by, in hex: keys are too long for an index."""
    return hashlib.sha256(order(identity(key))).hexdigest()


def join(location: str, name: str) -> str:
    """Return the key of a name under a storage's location; the name is kept exact."""
    prefix = location.strip("/")
    return f"{prefix}/{name}" if prefix else name


def quote_key(key: str) -> str:
    """Return the key as a URL path: ASCII, and no segment a client would resolve away."""
    quoted = key if _PLAIN_PATH.fullmatch(key) else quote(key, safe="/~")
    if "/." not in quoted and not quoted.startswith("."):
        return quoted
    return _DOTS.sub(lambda dots: "%2E" * len(dots[0]), quoted)


def url_paths(key: str) -> tuple[str, ...]:
    """Return the URL paths under which caches may hold a key: as `quote_key` writes it, and as
    browsers leave what need not be encoded."""
    return tuple(dict.fromkeys((quote_key(key), quote(key, safe="/~!$&'()*+,;=:@"))))


def host_of(url: str) -> str:
    """Return the host (and port, unless it is the default one) of a URL, "" if it has none."""
    match = URL.match(url)
    return normal_host(match[2]) if match else ""


def normal_host(netloc: str) -> str:
    """Return the host as hosts are compared: no credentials, default port or upper case."""
    host = netloc.rpartition("@")[2].lower()
    if host.endswith((":443", ":80")):
        host = host.rpartition(":")[0]
    host = host.rstrip(".")
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return host


def split_base(url: str) -> tuple[str, str]:
    """Return (host, path) of a base URL; the path starts and ends with "/"."""
    match = URL.match(url)
    if match is None:
        return "", url
    return normal_host(match[2]), url[match.end() :] or "/"


def path_spellings(path: str) -> list[str]:
    decoded = unquote(path)
    return list(dict.fromkeys((path, decoded, quote(decoded, safe="/~!*()'"))))


def is_plain(rest: str) -> bool:
    """Tell whether what follows a base URL can mean one key only: itself."""
    if not rest or rest[0] == "." or rest[-1].isspace():
        return False
    return "/." not in rest and _SPECIAL.search(rest) is None


def readings(rest: str) -> tuple[str, ...]:
    """Return every key that what follows a base URL could mean, likeliest first; () for none.

    First the decoded path without query and fragment, which web servers take; then what careless
    writers mean by the same text: a key pasted in undecoded, "+" for a space, a raw "?" or "#".
    """
    if is_plain(rest):
        return (rest,)
    path = _cut(rest.rstrip())
    if not path:
        return ()
    plain = decode(path)
    found = [plain, path]
    if "+" in path:
        found.append(decode(path.replace("+", " ")))
    if len(path) != len(rest):
        found += _careless(rest)
    if "." in plain and _DOTS.search(path):
        found.append(_resolved(plain))
    return tuple(key for key in dict.fromkeys(found) if key)


def _careless(rest: str) -> tuple[str, ...]:
    """Return the keys whose "?", "#" or last space nobody encoded."""
    whole = rest.rstrip()
    return decode(whole), whole, decode(_cut(rest)), _cut(rest), rest


def _cut(text: str) -> str:
    return text.partition("#")[0].partition("?")[0]


def _resolved(path: str) -> str:
    """Return the path a browser asks for when it meets "." and ".." segments."""
    return posixpath.normpath(f"/{path}").lstrip("/")


def decode(text: str) -> str:
    """Decode percent-encoding; text that is not UTF-8 then stays as it is."""
    try:
        return unquote_to_bytes(text).decode() if "%" in text else text
    except UnicodeError:
        return text


def unescaped(key: str) -> str:
    """Return a key without percent-encoding, however often it was encoded, in NFC."""
    for _ in range(_ENCODINGS):
        plain = decode(key)
        if plain == key:
            break
        key = plain
    return identity(key)


def name_spellings(name: str, location: str, key: str) -> tuple[str, ...]:
    """Return the other keys a storage could make of a name.

    django-storages resolves "//", "." and backslashes; others drop a leading "/".
    Source: storages/utils.py, clean_name and safe_join.
    """
    if is_plain(name) and name[0] != "/" and "//" not in name and "\\" not in name:
        return ()
    cleaned = posixpath.normpath(name).replace("\\", "/") + ("/" if name.endswith("/") else "")
    found = [name.lstrip("/"), cleaned.lstrip("/"), name.strip(), decode(name)]
    keys = [join(location, spelling) for spelling in found if spelling]
    return tuple(spelling for spelling in dict.fromkeys(keys) if spelling != key)


def is_bare_name(text: str) -> bool:
    """Tell whether a text of no known meaning reads as a storage's name for a file: "icons/a.png".

    One line that ends in an extension; no address, page, host, e-mail or number.
    """
    found = _NAME.fullmatch(text)
    return found is not None and found[1].lower() not in _NO_EXTENSIONS and not _EMAIL.search(text)


def inside(path: str) -> str:
    """Return a relative path as a file server reads it, "" if it could lead anywhere else."""
    segments = [segment for segment in path.split("/") if segment not in ("", ".")]
    if not segments or path.endswith("/") or ".." in segments or "\0" in path:
        return ""
    return "/".join(segments)


def redact(value: str) -> str:
    """Return the text without the credentials and signatures of the URLs in it."""
    without = _USERINFO.sub(r"\1", value) if "@" in value else value
    without = _SECRET_PAIR.sub(r"\1redacted", without) if "=" in without else without
    if "%" not in without:
        return without
    return _ENCODED_PAIR.sub(r"\1redacted", _ENCODED_USERINFO.sub(r"\1", without))
