"""A bucket of millions that does nothing but list, and a database whose rows name its objects.

Keys are submissions/<id:08d>/<kind>/<md5(id)[:16]>.webp, five kinds to a submission; the server is
a program of the caller's that makes the same ones, started as `python SERVER --objects N --port P`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("icons", "main_ar", "main_en", "screens_ar", "screens_en")
PUBLIC = "https://media.example.org/"


def read_options(description: str) -> argparse.Namespace:
    """Return the options every comparison with `s5cmd ls` takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("server", nargs="?", help="program of the listing server")
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--endpoint", help="a server that runs already")
    parser.add_argument("--fill", metavar="DATABASE", help=argparse.SUPPRESS)
    parser.add_argument("--measure", metavar="DATABASE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.server or options.endpoint or options.fill):
        parser.error("name a server program, or an --endpoint.")
    return options


def compare(program: str, options: argparse.Namespace, label: str) -> None:
    """Fill a database, then time `s5cmd ls` and the program itself in turns, each alone."""
    with ExitStack() as stack:
        endpoint = options.endpoint or stack.enter_context(serve(options.server, options.objects))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = directory / "rows.sqlite3"
        command = [sys.executable, program, "--endpoint", endpoint]
        run([*command, "--objects", str(options.objects), "--fill", str(database)], "rows written")
        ratios = []
        for _ in range(options.rounds):
            listed = ["s5cmd", "--endpoint-url", endpoint, "ls", "s3://big/*"]
            peer = run(listed, "s5cmd ls", quiet=True)
            ours = run([*command, "--measure", str(database)], label)
            ratios.append(ours / peer)
        told = " ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
        print(f"ratio: {sorted(ratios)[len(ratios) // 2]:.2f} of the time of s5cmd ls ({told})")


def configure(database: Path, endpoint: str):
    """Return r2maint's configuration for the bucket and this SQLite database."""
    return set_up_database(_sqlite(database), endpoint)


def set_up_database(database: dict, endpoint: str):
    """Return the same for any database, given as `DATABASES` has it."""
    set_up(database)
    from django.conf import settings

    settings.R2MAINT = {
        "BUCKET": "big",
        "ENDPOINT_URL": endpoint,
        "ACCESS_KEY_ID": "any",
        "SECRET_ACCESS_KEY": "any",
        "PUBLIC_URL": PUBLIC,
        "MANAGED_PREFIXES": ["submissions/"],
    }
    from r2maint import conf

    return conf.load()


def print_peak() -> None:
    """Print the most memory this process held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"peak memory: {peak} MiB")


@contextmanager
def serve(program: str, objects: int) -> Iterator[str]:
    """Run the listing server on a free port; give its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, program, "--objects", str(objects), "--port", str(port)]
    process = subprocess.Popen(command)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def run(command: list[str], label: str, *, quiet: bool = False) -> float:
    """Run one program and return its seconds."""
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    begun = time.perf_counter()
    subprocess.run(
        command, check=True, env=environment, stdout=subprocess.DEVNULL if quiet else None
    )
    seconds = time.perf_counter() - begun
    print(f"{label}: {seconds:.1f} s", flush=True)
    return seconds


def _sqlite(path: Path) -> dict:
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}


def set_up(database: dict) -> None:
    """Configure Django with the example app on this database."""
    sys.path.insert(0, str(ROOT))
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings_test"
    from django.conf import settings

    settings.DATABASES = {"default": database}
    settings.DEBUG = False
    import django

    django.setup()


def fill(database: Path | dict, objects: int) -> None:
    """Write the rows; a path is that of a SQLite database."""
    set_up(database if isinstance(database, dict) else _sqlite(database))
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)
    from tests.appdirectory.models import AppSubmission

    ids = range(1, objects // len(KINDS) + 1)
    for start in range(0, len(ids), 5000):
        rows = [row(AppSubmission, number) for number in ids[start : start + 5000]]
        AppSubmission.objects.bulk_create(rows)


def row(model, number: int):
    named = number - (number % 10 == 0)
    name = hashlib.md5(str(named).encode(), usedforsecurity=False).hexdigest()[:16]
    urls = {kind: f"{PUBLIC}submissions/{named:08d}/{kind}/{name}.webp" for kind in KINDS}
    return model(
        tracking_id=f"QAD-{number:08d}",
        app_name_en=f"App {number}",
        app_name_ar=f"تطبيق {number}",
        description_en="A reading companion with recitations, translations and notes. " * 3,
        google_play_link=f"https://play.google.com/store/apps/details?id=org.example.app{number}",
        app_icon_url=urls["icons"],
        main_image_en=urls["main_en"],
        main_image_ar=urls["main_ar"],
        screenshots_en=[urls["screens_en"]],
        screenshots_ar=[urls["screens_ar"]],
    )
