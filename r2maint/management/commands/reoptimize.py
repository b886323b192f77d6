"""`manage.py reoptimize`: smaller versions of the pictures rows name."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandParser

from r2maint.images import Recipe
from r2maint.journal.journal import Journal
from r2maint.management.commands._base import Options, R2Command, Work
from r2maint.management.commands._options import natural
from r2maint.rendering import ReportColumn, Unit
from r2maint.reoptimize.apply import apply_reoptimize
from r2maint.reoptimize.plan import SAMPLE, plan_reoptimize
from r2maint.reoptimize.result import Reoptimization, ReoptimizeAction, ReoptimizeItem

AS_GOOD_AS_IT_GETS = {"already", "already_webp", "already_avif", "not_smaller", "too_small"}
DEFAULT = Recipe()


class Command(R2Command):
    help = (
        "Re-encode the pictures rows name where that makes them smaller and leaves them looking the"
        " same. Each new version gets its own key and every reference follows; nothing is deleted."
    )
    examples = (
        "manage.py reoptimize --sample 50",
        "manage.py reoptimize --apply --max-duration 30m",
        "manage.py reoptimize --model submissions.AppSubmission --field app_icon_url"
        " --max-size 512x512 --apply",
    )
    columns = (
        ReportColumn("action", "Action"),
        ReportColumn("key", "Key"),
        ReportColumn("new_key", "New key"),
        ReportColumn("bytes_before", "Before", Unit.BYTES),
        ReportColumn("bytes_after", "After", Unit.BYTES),
        ReportColumn("ssim", "SSIM", Unit.RATIO),
        ReportColumn("reason", "Reason"),
        ReportColumn("detail", "Detail"),
        ReportColumn("format", in_text=False),
        ReportColumn("references", in_text=False),
    )

    def add_own_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add(
            "--to",
            choices=("webp", "avif", "auto"),
            help=(
                "Format of new versions; auto searches for the fewest bytes that look as good as"
                " WebP of --quality (default webp, or FIELDS')."
            ),
        )
        add(
            "--quality",
            type=_quality,
            default=DEFAULT.quality,
            metavar="Q",
            help=f"Quality from 1 to 100, on WebP's scale (default {DEFAULT.quality}).",
        )
        add(
            "--min-ssim",
            type=_similarity,
            metavar="S",
            help=(
                "Least similarity to the original at the new size, 0 to 1: mean SSIM of the luma"
                " (default with auto: what WebP of --quality reaches on the same picture)."
            ),
        )
        add(
            "--max-size",
            type=_size,
            metavar="WxH",
            help="Fit larger pictures into this (default 2000x2000, or what FIELDS says).",
        )
        add(
            "--min-saving",
            type=_percent,
            default=DEFAULT.min_saving_percent,
            metavar="P%",
            help="Keep the original unless at least this much is saved, and 1 KiB (default 5%%).",
        )
        add(
            "--sample",
            type=natural,
            default=SAMPLE,
            metavar="N",
            help=f"Pictures a plan encodes to extrapolate from (default {SAMPLE}).",
        )

    def is_fine(self, item: ReoptimizeItem) -> bool:
        return item.action is ReoptimizeAction.SKIP and item.reason in AS_GOOD_AS_IT_GETS

    def is_urgent(self, item: ReoptimizeItem) -> bool:
        # What a plan has encoded is worth more to its reader than what it has not.
        return item.action is ReoptimizeAction.FAIL or item.bytes_after is not None

    def plan(self, work: Work, options: Options) -> Reoptimization:
        given = {name: options[name] for name in ("to", "max_size") if options[name]}
        recipe = Recipe(
            quality=options["quality"],
            min_ssim=options["min_ssim"],
            min_saving_percent=options["min_saving"],
            **given,
        )
        return plan_reoptimize(
            work.config,
            work.addresses,
            work.bucket,
            scope=work.scope,
            control=work.control,
            recipe=recipe,
            overrides=frozenset(given),
            sample=options["sample"],
            now=work.clock.now,
        )

    def apply(self, plan: Reoptimization, work: Work, journal: Journal) -> Reoptimization:
        return apply_reoptimize(
            plan, work.config, work.addresses, work.bucket, journal, control=work.control
        )


def _number(text: str, low: float, high: float, what: str, kind: Any = int) -> Any:
    try:
        number = kind(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise ArgumentTypeError(f"{text!r} is not {what}.")
    return number


def _quality(text: str) -> int:
    return int(_number(text, 1, 100, "a quality from 1 to 100"))


def _similarity(text: str) -> float:
    return float(_number(text, 0, 1, "a similarity from 0 to 1", float))


def _percent(text: str) -> float:
    return float(_number(text.removesuffix("%"), 0, 100, "a percentage like 5%", float))


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"0*([1-9]\d{0,5})[xX]0*([1-9]\d{0,5})", text, re.ASCII)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is not a size like 2000x2000.")
    return int(match[1]), int(match[2])
