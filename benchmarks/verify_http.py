"""Check twenty thousand URLs and compare it with `linkinator` on the same ones.

    python benchmarks/verify_http.py [--urls 20000] [--dead 100] [--rounds 3]
        [--linkinator PROGRAM] [--connections 100] [--workers 32]

A local nginx serves that many small files, and answers 404 for `--dead` more. Each round asks for
all of them three times, the sides taking turns in going first: `linkinator` from a page that links
to each, at `--connections` at once; `verify_urls --level http` from rows that name each, as one
process from the interpreter's start to its end; and `wrk`, which says how fast nginx can serve them
at all, with GET: it would wait for the bodies that answers to HEAD announce. Ours are objects of a
bucket in a directory but for the dead ones, which are another host's. Printed are links a second of
each, the ratios, and every verdict that is wrong. Needs nginx, wrk and linkinator (npm) on PATH, or
the latter named, and as many open files as there are URLs: linkinator keeps a connection for each.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
BODY = b"\x89PNG\r\n\x1a\n"
CONFIGURATION = """
daemon off; worker_processes 1; pid {work}/nginx.pid; error_log {work}/nginx.log;
events {{ worker_connections 19000; }}
http {{
  access_log off; types {{ image/png png; text/html html; }} keepalive_requests 10000000;
  client_body_temp_path {work}/body; proxy_temp_path {work}/proxy;
  fastcgi_temp_path {work}/fastcgi; uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
  server {{ listen {address}; root {work}/served; }}
}}
"""
WRK = """
local n = 0
request = function()
  n = (n + 1) % {urls}
  return wrk.format("GET", string.format("/%02d/picture-%06d.png", n % 100, n))
end
"""


@dataclass(frozen=True)
class Task:
    """What both sides are given."""

    work: Path
    address: str
    options: argparse.Namespace

    @property
    def total(self) -> int:
        return int(self.options.urls + self.options.dead)


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory(prefix="r2maint-bench-") as directory:
        work = Path(directory)
        with served(work, options) as address:
            task = Task(work, address, options)
            run_child(task, "fill")
            compare([one_round(task, peer_first=n % 2 == 0) for n in range(options.rounds)])


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--urls", type=int, default=20_000)
    parser.add_argument("--dead", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--linkinator", default=shutil.which("linkinator"))
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        be_child(json.loads(options.child))
        sys.exit()
    if not options.linkinator:
        parser.error("linkinator is not on PATH: name it with --linkinator.")
    return options


# The server


@contextmanager
def served(work: Path, options: argparse.Namespace) -> Iterator[str]:
    """Run nginx on a free port; give its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    fill_site(work / "served", options, address)
    (work / "nginx.conf").write_text(CONFIGURATION.format(work=work, address=address))
    (work / "wrk.lua").write_text(WRK.format(urls=options.urls))
    os.chmod(work, 0o755)
    process = subprocess.Popen(
        ["nginx", "-c", str(work / "nginx.conf"), "-p", str(work)], stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                host, _, port = address.partition(":")
                if probe.connect_ex((host, int(port))) == 0:
                    break
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait()


def fill_site(root: Path, options: argparse.Namespace, address: str) -> None:
    for number in range(options.urls):
        path = root / path_of(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(BODY + b"%06d" % number)
    paths = [path_of(number) for number in range(options.urls)]
    paths += [f"gone/{number}.png" for number in range(options.dead)]
    links = (f'<a href="http://{address}/{path}">x</a>' for path in paths)
    (root / "index.html").write_text(f"<html><body>{' '.join(links)}</body></html>")


def path_of(number: int) -> str:
    return f"{number % 100:02d}/picture-{number:06d}.png"


# The sides


def one_round(task: Task, *, peer_first: bool) -> dict[str, float]:
    """Let both sides and wrk check the same URLs; return links a second."""
    sides = (ask_peer, ask_ours) if peer_first else (ask_ours, ask_peer)
    rates = dict(side(task) for side in sides)
    rates["wrk"] = ask_wrk(task)
    shown = ", ".join(f"{name} {rate:,.0f}/s" for name, rate in rates.items())
    print(f"  {shown}", flush=True)
    return rates


def ask_peer(task: Task) -> tuple[str, float]:
    options = task.options
    command = [options.linkinator, f"http://{task.address}/index.html", "--format", "json"]
    command += ["--concurrency", str(options.connections), "--verbosity", "error"]
    begun = time.perf_counter()
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    seconds = time.perf_counter() - begun
    with contextlib.suppress(ValueError):
        links = json.loads(ended.stdout)["links"]
        broken = sum(link["state"] == "BROKEN" for link in links)
        print(f"linkinator: {len(links):,} links, {broken:,} broken, {options.dead:,} are")
    return "linkinator", task.total / seconds


def ask_ours(task: Task) -> tuple[str, float]:
    begun = time.perf_counter()
    run_child(task, "verify")
    return "verify_urls", task.total / (time.perf_counter() - begun)


def ask_wrk(task: Task) -> float:
    command = ["wrk", "-t1", "-c", str(task.options.workers), "-d", "3"]
    command += ["-s", str(task.work / "wrk.lua"), f"http://{task.address}/"]
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", told)
    assert found, told
    return float(found[1])


def compare(rounds: list[dict[str, float]]) -> None:
    import statistics  # not for the processes that are timed: manage.py imports nothing of the kind

    for peer in ("linkinator", "wrk"):
        ratios = sorted(each["verify_urls"] / each[peer] for each in rounds)
        shown = " ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"links/s to those of {peer}: median {statistics.median(ratios):.2f} ({shown})")


# Ours, in a process of its own


def run_child(task: Task, what: str) -> None:
    given = {"work": str(task.work), "address": task.address, "what": what}
    given |= {name: getattr(task.options, name) for name in ("urls", "dead", "workers")}
    command = [sys.executable, __file__, "--child", json.dumps(given)]
    # An installed package is compiled, whatever this shell says of writing bytecode.
    subprocess.run(command, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""}, check=True)


def be_child(given: dict) -> None:
    set_up(given)
    if given["what"] == "fill":
        fill_project(given)
    else:
        verify(given)


def set_up(given: dict) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings_test"
    from django.conf import settings

    database = Path(given["work"]) / "rows.sqlite3"
    settings.DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}}
    settings.DEBUG = False
    settings.R2MAINT = {
        "BUCKET": f"file:{given['work']}/bucket",
        "PUBLIC_URL": f"http://{given['address']}/",
        "FETCH_ALLOW": [strangers(given)],
        "FIELDS": {"appdirectory.AppSubmission": {"app_icon_url": {}}},
    }
    import django

    django.setup()


def strangers(given: dict) -> str:
    """Return another name of the same server: no host of ours."""
    return given["address"].replace("127.0.0.1", "localhost")


def fill_project(given: dict) -> None:
    """Store the files as objects, and name each in a row."""
    from django.core.management import call_command

    from r2maint.bucket import Upload, open_bucket, put
    from r2maint.conf import load
    from tests.appdirectory.models import AppSubmission

    call_command("migrate", run_syncdb=True, verbosity=0)
    bucket = open_bucket(load())
    for number in range(given["urls"]):
        put(bucket, Upload(key=path_of(number), body=BODY + b"%06d" % number))
    urls = [f"http://{given['address']}/{path_of(n)}" for n in range(given["urls"])]
    urls += [f"http://{strangers(given)}/gone/{number}.png" for number in range(given["dead"])]
    rows = (
        AppSubmission(tracking_id=f"QAD-{number:06d}", app_icon_url=url)
        for number, url in enumerate(urls)
    )
    AppSubmission.objects.bulk_create(rows, batch_size=1000)


def verify(given: dict) -> None:
    from io import StringIO

    from django.core.management import CommandError, call_command

    out = StringIO()
    with contextlib.suppress(CommandError):
        call_command(
            "verify_urls", level="http", workers=given["workers"], format="json", stdout=out
        )
    outcomes = json.loads(out.getvalue())["summary"]["outcomes"]
    expected = {"ok": given["urls"], "dead": given["dead"]}
    wrong = {name: n - expected.get(name, 0) for name, n in outcomes.items()}
    wrong = {name: n for name, n in wrong.items() if n}
    print(f"verify_urls: false verdicts: {wrong or 'none'}", flush=True)


if __name__ == "__main__":
    main()
