"""Kill re-encodings with SIGKILL at random moments, and run them again each time.

A process of its own: `python -m tests.attacks.kill_reoptimize TASK`, where TASK is JSON: directory, database,
endpoint, kills, seed, pictures, sample. It prints a JSON line for each round: a project whose pictures are
re-encoded, killed some times on the way, and the promises that were broken.
"""

from __future__ import annotations

import io
import json
import random
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.attacks.forked_children import Child, forked
from tests.worlds import attacked_project
from tests.worlds.attacked_project import PUBLIC

TABLES = ("app_submissions", "oddities_listing", "oddities_article")
OWN_TABLES = ("r2maint_change", "r2maint_run", "r2maint_encoding")
NAMERS = 5
"""References to each picture, besides one that all texts share."""

State = dict[str, Any]


def rounds(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one line a round: one undisturbed, the others killed at random moments."""
    attacked_project.configure(Path(task["directory"]), task["database"], task["endpoint"])
    forked(attacked_project.create_tables)
    chance, count, kills = random.Random(task["seed"]), task["pictures"], 0
    act = partial(run, task["sample"])
    begin(count)
    began = time.monotonic()
    broken = finish(act, {})
    seconds, expected = time.monotonic() - began, told(state)
    yield {"round": "undisturbed", "kills": 0, "broken": broken, "seconds": seconds}
    while kills < task["kills"]:
        begin(count)
        broken, here = [], 0
        while kills + here < task["kills"] and Child(act).is_killed_after(
            chance.uniform(0, seconds)
        ):
            here += 1
            broken += [f"after a kill: {each}" for each in told(torn)]
            forked(attacked_project.end_lease)
        broken += finish(act, expected)
        kills += here
        yield {"round": "random", "kills": here, "broken": broken[:10]}


def told(ask: Any) -> Any:
    return json.loads(forked(lambda: json.dumps(ask())))


def begin(pictures: int) -> None:
    attacked_project.begin(f"media-{uuid.uuid4().hex[:12]}")
    forked(lambda: prepare(pictures))


def prepare(pictures: int) -> None:
    """Make a bucket of pictures, and the rows that name them in three ways; nothing is left."""
    from django.db import connections

    from r2maint.bucket import Headers, Upload, put
    from tests.appdirectory.models import AppSubmission
    from tests.oddities.models import Article, Listing

    with connections["default"].cursor() as cursor:
        for table in (*TABLES, *OWN_TABLES):
            cursor.execute(f"DELETE FROM {table}")
    bucket = attacked_project.open_bucket()
    bucket._client.create_bucket(
        Bucket=bucket.name, CreateBucketConfiguration={"LocationConstraint": "auto"}
    )
    urls = []
    for number in range(pictures):
        key = f"shots/{number}.png"
        headers = Headers(content_type="image/png")
        put(bucket, Upload(key=key, body=drawn(number), headers=headers))
        urls.append(PUBLIC + key)
    for number, url in enumerate(urls):
        AppSubmission.objects.create(
            id=number + 1, tracking_id=f"QAD-{number}", app_icon_url=url, screenshots_en=["x", url]
        )
        Listing.objects.bulk_create(
            Listing(id=NAMERS * number + each + 1, cover_url=url) for each in range(NAMERS)
        )
        Article.objects.create(id=number + 1, body=f"See {url} and {urls[0]} here.")


def drawn(number: int) -> bytes:
    from PIL import Image, ImageDraw

    image = Image.radial_gradient("L").resize((160, 120)).convert("RGB")
    ImageDraw.Draw(image).ellipse((number * 7 % 90, 20, 120, 110), fill=(200, number % 256, 40))
    out = io.BytesIO()
    Image.blend(image, image.rotate(180), 0.3).save(out, "PNG")
    return out.getvalue()


def run(sample: int) -> str:
    return attacked_project.call("reoptimize", "--apply", "--no-input", "--sample", str(sample))


# Proofs


def state() -> State:
    """Return every row, every object, and what the journal says of the rewrites."""
    from django.db import connections

    from r2maint.models import Change, Run

    rows: dict[str, list[list[str]]] = {}
    with connections["default"].cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT * FROM {table} ORDER BY 1")
            rows[table] = [list(map(str, row)) for row in cursor.fetchall()]
    rows["app_submissions"] = [strip_times(row) for row in rows["app_submissions"]]
    rewrites = Change.objects.filter(kind="rewrite").order_by(
        "model", "row", "field", "path", "old"
    )
    return {
        "rows": rows,
        "objects": {item.key: item.etag for item in attacked_project._listed()},
        "rewrites": [list(each) for each in rewrites.values_list("state", "model", "old", "new")],
        "runs": list(Run.objects.values_list("command", "state")),
    }


def strip_times(row: list[str]) -> list[str]:
    return [cell for cell in row if not cell.startswith("20")]


def torn() -> list[str]:
    """Return the pictures of which some references followed, and addresses that lead nowhere."""
    from tests.appdirectory.models import AppSubmission
    from tests.oddities.models import Article, Listing

    objects = {item.key for item in attacked_project._listed()}
    named: dict[int, set[str]] = defaultdict(set)
    for pk, icon, screens in AppSubmission.objects.values_list(
        "pk", "app_icon_url", "screenshots_en"
    ):
        named[pk - 1] |= {icon, screens[1]}
    for pk, url in Listing.objects.values_list("pk", "cover_url"):
        named[(pk - 1) // NAMERS].add(url)
    for pk, body in Article.objects.values_list("pk", "body"):
        _, own, _, shared, _ = body.split()
        named[pk - 1].add(own)
        named[0].add(shared)
    split = {number: sorted(urls) for number, urls in named.items() if len(urls) > 1}
    everything = {url for urls in named.values() for url in urls}
    nowhere = [url for url in everything if url.removeprefix(PUBLIC) not in objects]
    return [*map("Picture {0[0]} is named {0[1]}".format, split.items()), *nowhere]


def finish(act: Callable[[], str], expected: State) -> list[str]:
    """Let the re-encoding end, and return what it broke."""
    done = json.loads(forked(act))
    broken = told(torn)
    if (done["exit_code"], done["error"]) != (0, None):
        broken.append(f"the last execution ended with {done['exit_code']}: {done}")
    found = told(state)
    broken += [
        f"other {name} than undisturbed" for name in expected if found[name] != expected[name]
    ]
    again = json.loads(forked(act))
    if again["run_id"] is not None or again["summary"]["candidates"]:
        broken.append(f"a further run had work: {again['summary']}")
    return broken


if __name__ == "__main__":
    for line in rounds(json.loads(sys.argv[1])):
        print(json.dumps(line), flush=True)  # noqa: T201
