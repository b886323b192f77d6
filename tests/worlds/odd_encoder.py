"""The program of a helper that answers what is no answer."""

from __future__ import annotations

from r2maint.processes.parent import Parent
from tests.worlds.helper_processes import misbehave


def main() -> None:
    parent = Parent()
    while True:
        misbehave(parent.get().body, parent)
