"""The program of a helper that dies of some pictures."""

from __future__ import annotations

from r2maint.images.encoding_child import serve
from tests.worlds.helper_processes import meet_fate


def main() -> None:
    serve(meet_fate)
