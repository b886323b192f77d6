"""Another process edits rows while a migration runs: every edit is there afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid

from tests.test_migrate_killed import ROOT, database  # noqa: F401
