"""`manage.py demo`: five commands put a small app directory right, before your eyes."""

from __future__ import annotations

import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand

from r2maint.bucket.directory_bucket import DirectoryBucket
from r2maint.conf import load
from tests.appdirectory import story


class Command(BaseCommand):
    help = "Fill the example project anew and take the five commands through it. Needs no account."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        self.verbosity = options["verbosity"]
        self._begin_anew()
        self._say("1. Years of uploads: files, rows, and a bucket that nobody tidied")
        self._fill()
        self._say("2. What is wrong? Nothing is written.")
        self._run("verify_urls", findings=True)
        self._say("3. Move the local media; look first, then apply")
        self._run("migrate_media_to_r2")
        self._run("migrate_media_to_r2", "--apply", "--no-input", findings=True)
        self._say("4. An editor removes the values that lead nowhere")
        self._drop_dead_values()
        self._say("5. Remove what nothing names; it waits in quarantine and can be brought back")
        self._run("purge_orphans")
        # The plan asks about temp-anon/: abandoned uploads, of which nothing ever named one.
        overrides = ("--adopt", "--override", "class", "--no-second-look")
        self._run("purge_orphans", *overrides, "--apply", "--no-input")
        self._say("6. Make the pictures smaller")
        self._run("reoptimize", "--apply", "--no-input")
        self._say("7. After: every reference, and the bill")
        self._run("verify_urls")
        self._run("usage_report")
        self._run("r2_runs")

    def _begin_anew(self) -> None:
        """Remove what an earlier demo left in `var/`; only ever that."""
        root = Path(settings.VAR)
        database = Path(settings.DATABASES["default"]["NAME"])
        if database.parent != root or not load().bucket.startswith(f"file:{root}"):
            raise CommandError("The demo runs with settings_test only: it removes what it finds.")
        for path in (database, Path(f"{database}-journal")):
            path.unlink(missing_ok=True)
        for directory in (Path(settings.MEDIA_ROOT), root / "bucket"):
            shutil.rmtree(directory, ignore_errors=True)
        call_command("migrate", run_syncdb=True, verbosity=0, interactive=False)

    def _fill(self) -> None:
        # Old enough for the grace period.
        bucket = DirectoryBucket(Path(settings.VAR) / "bucket", clock=lambda: story.past(days=40))
        told = story.tell(Path(settings.MEDIA_ROOT), bucket)
        self.stdout.write(
            f"{told.submissions} submissions and {told.apps} apps name {told.files} local files;"
            f" {told.objects} objects are in the bucket already."
        )

    def _drop_dead_values(self) -> None:
        found = json.loads(self._output("verify_urls", "--format", "json", findings=True))
        missing = [item for item in found["items"] if item["outcome"] == "missing"]
        dropped = story.drop_dead_values(item["reference"] for item in missing)
        self.stdout.write(f"{dropped} values removed.")

    def _run(self, command: str, *arguments: str, findings: bool = False) -> None:
        shown = " ".join(("manage.py", command, *arguments))
        self.stdout.write(self.style.MIGRATE_HEADING(f"\n$ {shown}"))
        self.stdout.write(self._output(command, *arguments, findings=findings))

    def _output(self, command: str, *arguments: str, findings: bool) -> str:
        """Return what a command prints; with `findings`, exit code 3 is expected of it."""
        out = StringIO()
        code = 0
        try:
            call_command(command, *arguments, stdout=out, stderr=self.stderr)
        except CommandError as error:
            code = error.returncode
            if code != 3:
                raise
        if code != (3 if findings else 0):
            raise CommandError(f"{command} ended with exit code {code}:\n{out.getvalue()}")
        return out.getvalue()

    def _say(self, heading: str) -> None:
        self.stdout.write(self.style.SUCCESS(f"\n\n{heading}"))
