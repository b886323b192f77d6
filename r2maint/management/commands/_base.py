"""What every command does the same way: plan, refuse, ask, hold the lease, apply, report, exit."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, TextIO

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DjangoDatabaseError

from r2maint import conf
from r2maint.alerts import log as log_alert
from r2maint.bucket import Bucket, open_bucket
from r2maint.bucket.clock import LOCAL_TIME, Clock
from r2maint.bucket.lease import hold_lease
from r2maint.conf import Config
from r2maint.control import Control
from r2maint.errors import Declined, R2MaintError, Stopped, UsageError
from r2maint.journal import journal
from r2maint.keys import Addresses
from r2maint.machine_resources import collecting_rarely
from r2maint.management.commands import _options
from r2maint.management.commands._exit import as_told, closing
from r2maint.management.commands._interrupts import Interrupts
from r2maint.management.commands._output import (
    BestEffortStream,
    ReportItems,
    deliver,
    hold_standard_descriptors,
    require_place,
    unwrapped,
    write_to,
)
from r2maint.management.commands._progress import bars_on
from r2maint.models import Run, RunState
from r2maint.references.scope import Scope
from r2maint.rendering import Metric, Refusal, Report, ReportColumn, Section, Suite, require_format

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a command is given to work with."""

    config: Config
    bucket: Bucket
    addresses: Addresses
    control: Control
    scope: Scope
    clock: Clock


@dataclass(slots=True, kw_only=True)
class _Progress:
    """How far an execution has come: what a report can say whenever it ends."""

    started_at: datetime
    control: Control
    interrupts: Interrupts
    bucket: str = ""
    clock: Clock | None = None
    run_id: str | None = None
    cause: BaseException | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        return (LOCAL_TIME,) if self.clock and self.clock.is_local else ()


class R2Command(BaseCommand):
    """A command of r2maint. Subclasses plan and apply; this decides when, and what comes of it.

    A plan and an outcome offer `summary()` and `items` (objects with `as_dict()`), and where they
    have them `refusals`, `has_work`, `findings`, `stopped`, `notes`, `databases` (whose rows
    change) and `extra`; a plan that can be applied also `question`.
    """

    # None: what a check would refuse is said by `conf.load()`, in every format.
    requires_system_checks = []
    examples: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[bool] = True
    """False for a command without --apply."""
    rejects: ClassVar[Mapping[str, str]] = {}
    """Common option -> why this command cannot honour it."""
    formats: ClassVar[tuple[str, ...]] = ("text", "json", "jsonl", "csv")
    plan_finds: ClassVar[bool] = False
    """True when findings of the plan itself are exit code 3."""
    columns: ClassVar[tuple[ReportColumn, ...]] = ()

    def __init__(
        self, stdout: TextIO | None = None, stderr: TextIO | None = None, **options: Any
    ) -> None:
        told: Any = BestEffortStream(stderr or sys.stderr)
        super().__init__(stdout, told, **options)

    # For subclasses

    @property
    def name(self) -> str:
        """The command as it is typed."""
        return type(self).__module__.rpartition(".")[2]

    def add_own_arguments(self, parser: CommandParser) -> None:
        """Add the options only this command has."""

    def plan(self, work: Work, options: Options) -> Any:
        """Return what would be done; writes nothing of the user's."""
        raise NotImplementedError

    def apply(self, plan: Any, work: Work, journal: journal.Journal) -> Any:
        """Do what was planned, under the lease, and return what happened."""
        raise NotImplementedError

    def open_bucket(self, config: Config, options: Options) -> Bucket:
        """Return the configured bucket."""
        return open_bucket(config, workers=options["workers"], rate=options["rate"])

    def journal_options(self, options: Options) -> dict[str, Any]:
        """Return what the journal keeps of the options: plain JSON values, nothing private."""
        return _options.recorded(options)

    def is_fine(self, item: Any) -> bool:
        """Tell whether an item is reported with --all only."""
        return False

    def is_urgent(self, item: Any) -> bool:
        """Tell whether somebody must act on an item; text shows those first."""
        return False

    def headline(self, result: Any, *, applied: bool) -> str:
        """Return the first line of a text report; command and bucket are put before it."""
        if applied:
            return "applied."
        return "a plan; --apply carries it out." if self.writes else "a report."

    def verdict(self, result: Any) -> str:
        """Return what the findings are, in a sentence; "" for a general one."""
        return ""

    def extra(self, result: Any) -> Mapping[str, Any]:
        """Return further top-level keys of the document."""
        return getattr(result, "extra", {})

    def sections(self, result: Any) -> Iterable[Section]:
        """Return the tables that text shows in place of the items."""
        return ()

    def suites(self, result: Any) -> Iterable[Suite]:
        """Return the cases that junit shows in place of the items."""
        return ()

    def metrics(self, result: Any, bucket: str) -> Iterable[Metric]:
        """Return the gauges that prometheus shows."""
        return ()

    # Options

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.setdefault("formatter_class", _options.HelpFormatter)
        kwargs.setdefault("epilog", _options.epilogue(self.examples))
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.description = textwrap.fill(self.help, 79)
        if not parser.called_from_command_line:
            # In a shell Django exits with 2; called from code it would raise with returncode 1.
            parser.error = _options.raise_usage  # type: ignore[method-assign]
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_own_arguments(parser)
        _options.add_common_options(
            parser, writes=self.writes, formats=self.formats, rejects=self.rejects
        )

    def _parsed(self, given: Options) -> Options:
        parser = self.create_parser("manage.py", self.name)
        options = _options.convert(parser, given)
        _options.refuse_rejected(parser, options, self.rejects)
        if options["dry_run"] and options.get("apply"):
            raise UsageError("--dry-run and --apply exclude each other.", "Pass one of them.")
        require_format(options["format"])
        require_place(options["format"], options["output"], self.stdout)
        return options

    # One execution

    def handle(self, *args: Any, **options: Any) -> None:
        hold_standard_descriptors()
        control = Control()
        with collecting_rarely(), Interrupts(control, self._announce_stop) as interrupts:
            progress = _Progress(started_at=_now(), control=control, interrupts=interrupts)
            try:
                result = self._run(progress, options)
            except (
                R2MaintError,
                DjangoDatabaseError,
                ImproperlyConfigured,
                OSError,
                KeyboardInterrupt,
            ) as error:
                result = self._failed(progress, error)
            except Exception as error:
                log_alert.raise_unexpected(self.name, progress.bucket, error)
                raise
            self._publish(result, options)
        if log_alert.is_due(result, is_check=bool(options["check"])):
            log_alert.raise_for(result, closing(result))
        if result.exit_code:
            raise CommandError(closing(result), returncode=result.exit_code) from progress.cause

    def _run(self, progress: _Progress, given: Options) -> Report:
        options = self._parsed(given)
        config = conf.load()
        progress.bucket = config.bucket
        work = self._open(config, progress.control, options)
        progress.bucket, progress.clock = work.bucket.name, work.clock
        if options.get("apply"):
            journal.require_tables([journal.home()])
        plan = self.plan(work, options)
        told = partial(self._report, progress, plan, options)
        if stopped := getattr(plan, "stopped", None):
            return told(exit_code=stopped.exit_code, stopped_by=stopped.reason)
        if not options.get("apply"):
            return told(exit_code=self._code_of_plan(plan, options))
        if refusals := _refusals(plan):
            return told(exit_code=4, stopped_by=refusals[0].brake)
        journal.require_tables(getattr(plan, "databases", ()))
        if plan.has_work:
            self._confirm(told(exit_code=0), plan.question, options, progress)
        elif not self._unfinished(work, options):
            return told(exit_code=3 if _findings(plan) else 0)
        return self._apply(progress, plan, work, options)

    def _unfinished(self, work: Work, options: Options) -> Run | None:
        """Return the run of an execution that was cut short: it ends with this one."""
        recorded = self.journal_options(options)
        return journal.find_unfinished(self.name, work.bucket.name, recorded)

    def _open(self, config: Config, control: Control, options: Options) -> Work:
        control.workers, control.rate = options["workers"], options["rate"]
        if limit := options["max_duration"]:
            control.deadline = time.monotonic() + limit.total_seconds()
        if self._draws_progress(options):
            control.progress = bars_on(unwrapped(self.stderr))
        bucket = self.open_bucket(config, options)
        return Work(
            config=config,
            bucket=bucket,
            clock=Clock(bucket, may_write=bool(options.get("apply"))),
            addresses=Addresses.from_config(config),
            control=control,
            scope=_scope(options),
        )

    def _code_of_plan(self, plan: Any, options: Options) -> int:
        has_findings = self.plan_finds and _findings(plan)
        has_work = options["check"] and getattr(plan, "has_work", False)
        return 3 if has_findings or has_work else 0

    def _apply(self, progress: _Progress, plan: Any, work: Work, options: Options) -> Report:
        recorded = self.journal_options(options)
        unfinished = self._unfinished(work, options)
        run_id = unfinished.pk if unfinished else journal.new_run_id(progress.started_at)
        with hold_lease(work.bucket, run_id=run_id, command=self.name) as lease:
            opened = journal.open_journal(
                command=self.name, bucket=work.bucket.name, options=recorded, run_id=run_id
            )
            opened.lease = lease
            progress.run_id = opened.run_id
            outcome = self._journalled(opened, plan, work)
        exit_code, stopped_by = _ending(outcome)
        return self._report(
            progress, outcome, options, exit_code=exit_code, stopped_by=stopped_by, applied=True
        )

    def _journalled(self, opened: journal.Journal, plan: Any, work: Work) -> Any:
        # Whatever did not come to its end is left STOPPED, for the next execution to go on with.
        state, summary = RunState.STOPPED, dict[str, Any]()
        try:
            outcome = self.apply(plan, work, opened)
            summary = _options.storable(outcome.summary())
            if _ending(outcome)[1] is None:
                state = RunState.FINISHED
        finally:
            opened.finish(state=state, summary=summary)
        return outcome

    # Asking

    def _confirm(self, plan: Report, question: str, options: Options, progress: _Progress) -> None:
        if not options["interactive"]:
            return
        if not (sys.stdin and sys.stdin.isatty() and self.stderr.isatty()):
            raise Declined(
                "Nobody can be asked: there is no terminal.",
                "Pass --no-input to apply without a question.",
            )
        with progress.interrupts.at_once():
            progress.control.check()
            write_to(self.stderr, plan, "text")
            self.stderr.write(f"\n{question} Type 'yes' to go on: ", _unstyled, ending="")
            self.stderr.flush()
            try:
                answer = input()
            except EOFError:
                answer = ""
        if answer.strip().lower() != "yes":
            raise Declined("Declined: nothing was changed.")

    # Reporting

    def _report(
        self,
        progress: _Progress,
        result: Any,
        options: Options,
        *,
        exit_code: int,
        stopped_by: str | None = None,
        applied: bool = False,
    ) -> Report:
        return Report(
            command=self.name,
            bucket=progress.bucket,
            run_id=progress.run_id,
            applied=applied,
            complete=stopped_by is None,
            stopped_by=stopped_by,
            started_at=progress.started_at,
            finished_at=_now(),
            exit_code=exit_code,
            summary=result.summary(),
            items=ReportItems(
                result.items,
                is_fine=self.is_fine,
                is_urgent=self.is_urgent,
                everything=options["all"],
                is_brief=options["format"] == "text",
            ),
            refusals=_refusals(result),
            extra=self.extra(result),
            notes=(*getattr(result, "notes", ()), *progress.notes),
            headline=f"{self.name}, bucket {progress.bucket}: "
            + self._first_line(result, options, applied=applied),
            verdict=self.verdict(result),
            columns=self.columns,
            sections=self.sections(result),
            suites=self.suites(result),
            metrics=self.metrics(result, progress.bucket),
        )

    def _first_line(self, result: Any, options: Options, *, applied: bool) -> str:
        if options.get("apply") and not applied:
            if _refusals(result):
                return "refused; nothing was changed."
            if not result.has_work:
                return "nothing to do."
        return self.headline(result, applied=applied)

    def _failed(self, progress: _Progress, error: BaseException) -> Report:
        progress.cause = error
        told = as_told(error, progress.control)
        return Report(
            command=self.name,
            bucket=progress.bucket,
            run_id=progress.run_id,
            applied=progress.run_id is not None,
            complete=False,
            stopped_by=told.reason if isinstance(told, Stopped) else None,
            started_at=progress.started_at,
            finished_at=_now(),
            exit_code=told.exit_code,
            error={"code": told.code, "message": told.message, "hint": told.hint},
        )

    def _publish(self, result: Report, options: Options) -> None:
        try:
            deliver(result, options, self.stdout)
        except R2MaintError as error:
            log_alert.raise_for(result, str(error))
            raise CommandError(str(error), returncode=error.exit_code) from error
        except KeyboardInterrupt as error:
            message = "Interrupted before the report was written."
            raise CommandError(message, returncode=130) from error

    # Progress

    def _draws_progress(self, options: Options) -> bool:
        wanted = options["verbosity"] and not options["no_progress"]
        return bool(wanted and self.stderr.isatty())

    def _announce_stop(self) -> None:
        if self.stderr.isatty():
            # os.write: a handler may run in the middle of a buffered write.
            with suppress(OSError, ValueError):
                os.write(
                    unwrapped(self.stderr).fileno(),
                    b"\nStopping at the next safe point; once more stops at once.\n",
                )


def _now() -> datetime:
    return datetime.now(tz=UTC)


def _unstyled(text: str) -> str:
    return text


def _refusals(result: Any) -> tuple[Refusal, ...]:
    return tuple(getattr(result, "refusals", ()))


def _findings(result: Any) -> bool:
    return bool(getattr(result, "findings", False))


def _ending(outcome: Any) -> tuple[int, str | None]:
    """Return the exit code of an outcome, and what stopped it."""
    if stopped := getattr(outcome, "stopped", None):
        return stopped.exit_code, stopped.reason
    if refusals := _refusals(outcome):
        return 4, refusals[0].brake
    return 3 if _findings(outcome) else 0, None


def _scope(options: Options) -> Scope:
    return Scope(
        models=tuple(options["model"]),
        fields=tuple(options["field"]),
        where=tuple(options["where"]),
        prefix=options["prefix"],
        limit=options["limit"],
        databases=tuple(options["database"]),
    )
