"""Answers of Cloudflare's API, in its envelope."""

from __future__ import annotations

import json

from tests.servers.s3_server import Answer

TOKEN = "t0ken-of-forty-characters-and-no-more-xx"
ZONE = "0123456789abcdef0123456789abcdef"


def told(status: int, *errors: tuple[int, str]) -> Answer:
    """An answer in the envelope of Cloudflare's API."""
    document = {
        "success": not errors,
        "errors": [{"code": code, "message": message} for code, message in errors],
        "messages": [],
        "result": None if errors else {"id": ZONE},
    }
    return Answer(status, json.dumps(document).encode(), "application/json")


DONE = told(200)
