"""The program of a helper that answers what ODD_ANSWER holds to all it is asked."""

from __future__ import annotations

import json
import os

from r2maint.processes.parent import Parent


def main() -> None:
    parent, answers = Parent(), json.loads(os.environ["ODD_ANSWER"])
    while True:
        told = parent.get().told
        if told.get("inquiries"):
            for answer in answers:
                parent.send(answer)
