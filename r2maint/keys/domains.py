"""Hosts of S3 endpoints: R2's by account and jurisdiction, and which are never public. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

R2_DOMAIN = "r2.cloudflarestorage.com"
_ACCOUNT = re.compile(r"[0-9a-f]{32}")
_S3_HOST = re.compile(rf"(^|\.){re.escape(R2_DOMAIN)}$|\.amazonaws\.com(\.cn)?$")


def build_endpoint(account_id: str, jurisdiction: str = "") -> str:
    """Return the S3 endpoint of an account, which differs by jurisdiction.

    Source: developers.cloudflare.com/r2/reference/data-location/
    """
    place = jurisdiction.lower()
    labels = [account_id.lower(), "" if place == "default" else place, R2_DOMAIN]
    return "https://" + ".".join(filter(None, labels))


def endpoint_without_bucket(endpoint_url: str, bucket: str) -> str:
    """Return the endpoint alone; Cloudflare's dashboard shows it with "/bucket" behind it."""
    endpoint = endpoint_url.rstrip("/")
    if bucket and urlsplit(endpoint).path.endswith(f"/{bucket}"):
        endpoint = endpoint[: -len(bucket) - 1]
    host = urlsplit(endpoint).netloc
    if bucket and host.lower().endswith(R2_DOMAIN) and host.startswith(f"{bucket}."):
        endpoint = endpoint.replace(f"//{bucket}.", "//", 1)
    return endpoint


def account_of(url: str) -> tuple[str, str]:
    """Return (account id, jurisdiction) of an R2 endpoint, ("", "") for every other URL."""
    try:
        host = (urlsplit(url).hostname or "").lower()
    except ValueError:
        return "", ""
    if not host.endswith(f".{R2_DOMAIN}"):
        return "", ""
    labels = host[: -len(R2_DOMAIN) - 1].split(".")
    accounts = [index for index, label in enumerate(labels) if _ACCOUNT.fullmatch(label)]
    index = accounts[-1] if accounts else max(0, len(labels) - 2)
    return labels[index], ".".join(labels[index + 1 :])


def is_s3_endpoint(host: str) -> bool:
    """Tell whether a host answers only signed requests, and so is never a public address."""
    return bool(_S3_HOST.search(host.lower().partition(":")[0].rstrip(".")))
