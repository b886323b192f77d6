"""Re-encode photographs, drawn icons and drawn screenshots, beside sharp on the same files.

    python benchmarks/reoptimize.py PHOTOGRAPHS --sharp NODE_MODULES [--rounds 3] [--to auto]

PHOTOGRAPHS is a directory of JPEG and PNG files; NODE_MODULES is where `npm install sharp` put it.
sharp makes `webp({quality: 85, effort: 4})` of the same size. Each side is a process of its own,
start and end included; they take turns in going first. Needs node, and scikit-image for the
similarity: its `structural_similarity` of the luma, of each side's file to that side's own resized
original, transparent pixels over grey.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

BOX = 2000
WORDS = ("verse", "page", "audio", "night", "open", "12:45")

SHARP = """
const sharp = require('sharp'), fs = require('fs'), path = require('path');
const [source, target, mode] = process.argv.slice(2);
const made = name => {
  const fitted = sharp(path.join(source, name)).rotate()
    .resize({width: %(box)d, height: %(box)d, fit: 'inside', withoutEnlargement: true});
  const written = mode === 'reference' ? fitted.png({compressionLevel: 1})
    : fitted.webp({quality: 85, effort: 4});
  return written.toFile(path.join(target, name));
};
Promise.all(fs.readdirSync(source).map(made));
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Re-encode pictures, beside sharp.")
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--sharp", type=Path, help="directory node_modules with sharp in it")
    parser.add_argument("--to", default="webp", choices=("webp", "auto"))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        reencode_all(options.photographs, options.ours, options.to)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as directory:
        source, ours, sharps, reference = (Path(directory, name) for name in "abcd")
        for path in (source, ours, sharps, reference):
            path.mkdir()
        gather(options.photographs, source)
        count = len(list(source.iterdir()))
        sides = (
            lambda: run_ours(source, ours, options.to),
            lambda: run_sharp(options, source, sharps),
        )
        ratios = []
        for turn in range(options.rounds):
            taken = {side: sides[side]() for side in ((0, 1) if turn % 2 == 0 else (1, 0))}
            ratios.append(taken[1].wall / taken[0].wall)
            rates = " ".join(
                f"{name} {count / taken[side].wall:.2f} images/s ({taken[side].cpu:.1f} s CPU)"
                for side, name in enumerate(("ours", "sharp"))
            )
            print(f"{rates}: {ratios[-1]:.2f} ×", flush=True)
        run_sharp(options, source, reference, "reference")
        told = " ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
        print(f"images/s: {sorted(ratios)[len(ratios) // 2]:.2f} × sharp ({told})")
        tell_files(source, ours, sharps, reference)


def tell_files(source: Path, ours: Path, sharps: Path, reference: Path) -> None:
    """Print bytes and similarity of both sides; what one side did not make counts as it was."""
    bytes_ours = bytes_sharp = worse = 0
    for path in sorted(source.iterdir()):
        made, theirs = ours / path.name, sharps / path.name
        size = (made if made.exists() else path).stat().st_size
        bytes_ours, bytes_sharp = bytes_ours + size, bytes_sharp + theirs.stat().st_size
        own = similarity(fitted(path), made) if made.exists() else 1.0
        other = similarity(opened(reference / path.name), theirs)
        worse += own < other
        kind = opened(made).format if made.exists() else "kept"
        mark = "  WORSE" if own < other else ""
        beside = f"sharp {theirs.stat().st_size:8} {other:.5f}{mark}"
        print(f"{path.name:24} {size:8} {own:.5f} {kind:5} {beside}")
    print(f"bytes: {bytes_ours / bytes_sharp:.3f} × sharp; less similar than sharp's: {worse}")


def run_ours(source: Path, target: Path, to: str) -> Taken:
    program = [sys.executable, __file__, str(source), "--ours", str(target), "--to", to]
    return timed(program, os.environ)


def run_sharp(options: argparse.Namespace, source: Path, target: Path, mode: str = "") -> Taken:
    script = target.parent / "sharp.js"
    script.write_text(SHARP % {"box": BOX})
    environment = {**os.environ, "NODE_PATH": str(options.sharp)}
    return timed(["node", str(script), str(source), str(target), mode], environment)


class Taken(NamedTuple):
    wall: float
    cpu: float


def timed(command: list[str], environment) -> Taken:
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(wall, cpu)


def reencode_all(source: Path, target: Path, to: str) -> None:
    from r2maint.images import Encoded, Job, Recipe, reencode_many

    recipe = Recipe(to=to, max_size=(BOX, BOX))
    paths = sorted(source.iterdir())
    jobs = (Job(path.name, path.read_bytes(), recipe) for path in paths)
    for finished in reencode_many(jobs, workers=os.cpu_count() or 1):
        if isinstance(finished.result, Encoded):
            (target / finished.label).write_bytes(finished.result.body)
        else:
            print(finished.label, finished.result)


# Similarity


def similarity(original: Image.Image, path: Path) -> float:
    from skimage.metrics import structural_similarity

    return float(structural_similarity(luma(original), luma(opened(path)), data_range=255))


def luma(image: Image.Image):
    import numpy

    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (128, 128, 128, 255))
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return numpy.asarray(image.convert("RGB").convert("L"))


def opened(path: Path) -> Image.Image:
    image = Image.open(io.BytesIO(path.read_bytes()))
    image.load()
    return image


def fitted(path: Path) -> Image.Image:
    """Return the pixels that were to be written."""
    from r2maint.images import Recipe
    from r2maint.images.pixels import prepare

    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return prepare(image, data, Recipe(max_size=(BOX, BOX))).image


# Files


def gather(photographs: Path, target: Path) -> None:
    for path in photographs.iterdir():
        if path.suffix in (".jpg", ".png"):
            (target / path.name).write_bytes(path.read_bytes())
    for number, image in enumerate(draw_icons(24)):
        image.save(target / f"icon-{number:02}.png")
    for number, image in enumerate(draw_screenshots(20)):
        image.save(target / f"screenshot-{number:02}.png")


def draw_icons(count: int) -> Iterator[Image.Image]:
    """Yield rounded icons with a gradient or a plain ground, shapes and a letter; with alpha."""
    for number in range(count):
        dice = random.Random(number)
        side = dice.choice((512, 1024))
        colours = [tuple(dice.randrange(256) for _ in range(3)) for _ in range(4)]
        ground = Image.new("RGB", (side, side), colours[0])
        if number % 2:
            ramp = Image.linear_gradient("L").resize((side, side)).rotate(dice.randrange(360))
            ground.paste(colours[1], mask=ramp)
        draw = ImageDraw.Draw(ground)
        for colour in colours[2:]:
            x, y, size = (dice.randrange(side // 8, side // 2) for _ in range(3))
            shape = dice.choice((draw.ellipse, draw.rectangle))
            shape((x, y, x + size, y + size), fill=colour)
        font = ImageFont.load_default(side // 2)
        draw.text((side // 2, side // 2), chr(65 + number), "white", font, anchor="mm")
        mask = Image.new("L", (4 * 256, 4 * 256), 0)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, 1023, 1023), radius=200, fill=255)
        ground.putalpha(mask.resize((side, side), Image.Resampling.LANCZOS))
        yield ground


def draw_screenshots(count: int) -> Iterator[Image.Image]:
    """Yield screens of a telephone: bars, cards, lines of text, some with a soft picture."""
    for number in range(count):
        dice = random.Random(1000 + number)
        screen = Image.new("RGB", (1080, 2340), dice.choice(("white", "#121212", "#f4f4f8")))
        draw = ImageDraw.Draw(screen)
        ink = "white" if screen.getpixel((0, 0))[0] < 128 else "#202124"
        draw.rectangle((0, 0, 1080, 180), fill=dice.choice(("#00796b", "#3f51b5", "#263238")))
        draw.text((60, 90), "Reciters and pages", "white", ImageFont.load_default(56), anchor="lm")
        for top in range(220, 2200, 330):
            draw.rounded_rectangle((40, top, 1040, top + 290), 32, outline="#9e9e9e", width=2)
            for line in range(4):
                words = " ".join(
                    dice.choice(("verse", "page", "audio", "night", "open", "12:45"))
                    for _ in range(6)
                )
                draw.text((320, top + 40 + 56 * line), words, ink, ImageFont.load_default(36))
            if number % 2:
                soft = Image.effect_noise((24, 24), 90).resize((240, 240), Image.Resampling.BICUBIC)
                screen.paste(
                    Image.merge("RGB", [soft, soft.rotate(90), soft.rotate(180)]), (60, top + 25)
                )
            else:
                draw.ellipse(
                    (60, top + 25, 300, top + 265),
                    fill=dice.choice(("#ffb300", "#8e24aa", "#43a047")),
                )
        yield screen


if __name__ == "__main__":
    main()
