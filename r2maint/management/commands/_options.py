"""The options every command understands, what their values mean, and the end of `--help`."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from django.core.management.base import CommandError, DjangoHelpFormatter
from django.db import connections

from r2maint.conf import parse_duration
from r2maint.errors import UsageError
from r2maint.rendering.as_json import encode

EXIT_CODES = """\
exit codes:
  0    done, nothing wrong; or the plan is printed
  1    could not run (configuration, bucket or database); or declined
  2    usage
  3    ran, with findings or failed items; or --check found work
  4    a brake refused --apply
  5    another run holds the lease
  6    stopped by --max-duration; run again to continue
  130  interrupted (129: the terminal is gone; 143: terminated); run again to
       continue"""


class HelpFormatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Django's order of options, with examples and tables left as they are written."""


def epilogue(examples: Iterable[str]) -> str:
    """Return what `--help` ends with."""
    return "\n".join(["examples:", *(f"  {line}" for line in examples), "", EXIT_CODES])


def add_common_options(
    parser: argparse.ArgumentParser,
    *,
    writes: bool,
    formats: tuple[str, ...],
    rejects: Mapping[str, str],
) -> None:
    """Add the options of every command; rejected ones are accepted, so that the error can say why,
    and hidden from the help."""

    def group(title: str) -> Callable[..., None]:
        target = parser.add_argument_group(title)

        def add(*flags: str, help: str, **settings: Any) -> None:
            hidden = any(flag in rejects for flag in flags)
            target.add_argument(*flags, help=argparse.SUPPRESS if hidden else help, **settings)

        return add

    _add_mode(group("plan or apply" if writes else "for scripts"), writes=writes)
    _add_scope(group("what is acted on"))
    _add_pace(group("how it runs"))
    _add_report(group("the report"), formats)


def _add_mode(add: Callable[..., None], *, writes: bool) -> None:
    if writes:
        add("--apply", action="store_true", help="Do it. Without this, only the plan is printed.")
    add(
        "--no-input",
        "--noinput",
        dest="interactive",
        action="store_false",
        help="Do not ask before applying." if writes else argparse.SUPPRESS,
    )
    add(
        "-n",
        "--dry-run",
        action="store_true",
        help="Only print the plan: the default, accepted for habit."
        if writes
        else argparse.SUPPRESS,
    )
    add("--check", action="store_true", help="Exit with 3 if there would be work.")


def _add_scope(add: Callable[..., None]) -> None:
    add(
        "--model",
        action="append",
        default=[],
        metavar="APP.MODEL",
        help="Only this model. Repeatable.",
    )
    add("--field", action="append", default=[], metavar="NAME", help="Only this field. Repeatable.")
    add(
        "--where",
        action="append",
        default=[],
        type=condition,
        metavar="FIELD=VALUE",
        help="Only rows whose field has this value. Repeatable.",
    )
    add("--prefix", default="", metavar="PREFIX", help="Only keys that start with this.")
    add("--limit", type=positive, metavar="N", help="Act on N items at most.")
    add(
        "--database",
        action="append",
        default=[],
        choices=tuple(connections),
        metavar="ALIAS",
        help=f"Only this database: {', '.join(connections)}. Repeatable.",
    )


def _add_pace(add: Callable[..., None]) -> None:
    add("--workers", type=positive, default=8, metavar="N", help="Requests at once (default 8).")
    add("--rate", type=rate, metavar="N", help="Requests a second at most.")
    add(
        "--max-duration",
        type=duration,
        metavar="30m",
        help="Stop at a safe point after this long and exit with 6: 90s, 30m, 12h, 7d.",
    )


def _add_report(add: Callable[..., None], formats: tuple[str, ...]) -> None:
    add(
        "--format",
        choices=formats,
        default=formats[0],
        help=f"Of the report (default {formats[0]}).",
    )
    add(
        "--output",
        type=Path,
        metavar="FILE",
        help="Write the report to FILE, whole or not at all, in place of stdout.",
    )
    add("--all", action="store_true", help="Report items that are fine, too.")
    add("--no-progress", action="store_true", help="Draw no progress bars.")


# Values


def positive(text: str) -> int:
    """Return a whole number above 0 that SQLite can hold."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 0 < number < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0, or over 2^63 - 1.")
    return number


def natural(text: str) -> int:
    """Return a whole number, 0 or above, that SQLite can hold."""
    # No more digits than 2^63 has are read: Python refuses some thousand with a ValueError.
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no whole number, 0 or above, or over 2^63 - 1."
        )
    return int(text)


def rate(text: str) -> float:
    """Return requests a second, above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not (number > 0 and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0.")
    return number


def duration(text: str) -> timedelta:
    """Return "90s 30m 12h 7d" or "0" as a timedelta."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?((?:[kmgtp]i?)?b)?", re.IGNORECASE)


def gigabytes(text: str) -> Decimal:
    """Return GB of 10^9 bytes: "500", "500GB", "1.5TB", "1TiB"."""
    from r2maint.pricing import GB  # loads the price tables, which most commands need not

    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 500GB, 1.5TB or 1TiB.")
    number, unit = match[1], (match[2] or "GB").upper()
    base = 1024 if "I" in unit else 1000
    return Decimal(number) * Decimal(base) ** "BKMGTP".index(unit[0]) / GB


def not_empty(text: str) -> str:
    """Return the text as it is."""
    # What an unset variable of a script becomes: without it, everything would be looked at.
    if not text:
        raise argparse.ArgumentTypeError("it is empty.")
    return text


def condition(text: str) -> tuple[str, str]:
    """Return ("field", "value") of FIELD=VALUE."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE.")
    return name, value


def convert(parser: argparse.ArgumentParser, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with every text parsed as the command line would parse it.

    `call_command("purge_orphans", grace="7d", model="app.Model")` bypasses argparse; what it passes
    means the same as on the command line. Raises: UsageError.
    """
    converted = dict(options)
    for action in parser._actions:
        value = converted.get(action.dest)
        if value is None or action.nargs not in (None, "?"):
            continue
        if isinstance(action, argparse._AppendAction):
            each = value if isinstance(value, list | tuple) else [value]
            converted[action.dest] = [_value(action, one) for one in each]
        else:
            converted[action.dest] = _value(action, value)
    return converted


def _value(action: argparse.Action, value: Any) -> Any:
    flag = "/".join(action.option_strings) or action.dest
    if isinstance(value, str | int | float) and callable(action.type):
        try:
            value = action.type(str(value))
        except (argparse.ArgumentTypeError, ValueError) as error:
            raise UsageError(f"{flag}: {error}") from error
    if action.choices is not None and value not in action.choices:
        known = ", ".join(map(str, action.choices))
        raise UsageError(f"{flag}: {value!r} is none of {known}.")
    return value


def refuse_rejected(
    parser: argparse.ArgumentParser, options: Mapping[str, Any], rejects: Mapping[str, str]
) -> None:
    """Raise UsageError for an option this command cannot honour, with the reason."""
    for action in parser._actions:
        for flag in set(action.option_strings) & rejects.keys():
            if options.get(action.dest) != action.default:
                raise UsageError(f"{flag} does not go with this command: {rejects[flag]}")


def raise_usage(message: str) -> NoReturn:
    """Raise what an unusable command line is when a command is called from code."""
    raise CommandError(f"Error: {message}", returncode=UsageError.exit_code)


# What the journal keeps

_UNRECORDED = frozenset(
    (
        *("format", "output", "all", "no_progress", "interactive", "apply", "dry_run", "check"),
        *("verbosity", "settings", "pythonpath", "traceback", "no_color", "force_color"),
        *("skip_checks", "stdout", "stderr"),
    )
)


def recorded(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that shaped a run; of --where the fields only, values may be private."""
    kept = {
        name: value
        for name, value in options.items()
        if name not in _UNRECORDED and value not in (None, False, "", [], ())
    }
    if "where" in kept:
        kept["where"] = [field for field, _ in kept["where"]]
    return storable(kept)


def storable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping as the plain JSON values a report would hold."""
    plain: dict[str, Any] = json.loads(encode(values))
    return plain
