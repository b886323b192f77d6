"""r2maint's own tables: what it did, and what it saw. Nothing here belongs to the project.

A `Run` lives in the home database (`journal.home()`). A `Change` about a row lives in the database
of that row, so that both commit together; it names its run by id, because a foreign key cannot
cross databases. On MariaDB text is compared byte for byte (migration 0005), as elsewhere: keys that
differ in case alone are two.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.core.checks import CheckMessage
from django.db import models


class UtcDateTimeField(models.DateTimeField):
    """A moment: aware UTC in Python, the same moment in the database, with USE_TZ and without.

    Without USE_TZ Django stores and returns times that do not say their zone, in TIME_ZONE. Here
    they are UTC, as with USE_TZ, so that a project that changes the setting keeps its history, and
    an hour that the clocks repeat is not ambiguous.
    """

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        # The column is the same: no migration.
        return name, "django.db.models.DateTimeField", args, kwargs

    def select_format(self, compiler: Any, sql: str, params: Any) -> Any:
        # The drivers drop the offset, and PostgreSQL tells the time of the session's zone.
        if _is_naive(compiler.connection) and compiler.connection.vendor == "postgresql":
            sql = f"({sql} AT TIME ZONE 'UTC')"
        return sql, params

    def from_db_value(self, value: datetime | None, expression: Any, connection: Any) -> Any:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        time = value if prepared else self.get_prep_value(value)
        # PostgreSQL stores moments, and would take a time without a zone for one of TIME_ZONE.
        if _is_naive(connection) and connection.vendor != "postgresql" and time is not None:
            time = time.astimezone(UTC).replace(tzinfo=None)
        return connection.ops.adapt_datetimefield_value(time)


def _is_naive(connection: Any) -> bool:
    """Tell whether USE_TZ is False, as a connection knows it."""
    return connection.timezone is None


class RunState(models.TextChoices):
    RUNNING = "running"
    """Begun; still at work, or killed."""
    STOPPED = "stopped"
    """Ended early by a signal, the time limit or a brake; the same command goes on with it."""
    FINISHED = "finished"
    FAILED = "failed"
    UNDONE = "undone"


class ChangeKind(models.TextChoices):
    REWRITE = "rewrite"
    UPLOAD = "upload"
    QUARANTINE = "quarantine"
    DELETE = "delete"
    RESTORE = "restore"
    REMOVE = "remove"
    """A local file, whose bytes the bucket holds under `key`; `old` is its path."""
    DISCARD = "discard"
    """A copy in quarantine, removed for good; `new` is where it lay, `row` the run that made it."""
    ABORT = "abort"
    """An unfinished upload; `new` is its id."""


class ChangeState(models.TextChoices):
    INTENDED = "intended"
    """Written down, and perhaps done: the run was killed in between."""
    DONE = "done"
    CONFLICT = "conflict"
    """Not done: the row or object was no longer what the plan saw."""
    UNDONE = "undone"


class Run(models.Model):
    """One execution of a writing command, resumed under the same id until it finishes."""

    id = models.CharField(primary_key=True, max_length=40)
    command = models.CharField(max_length=40)
    bucket = models.CharField(max_length=512)
    state = models.CharField(max_length=8, choices=RunState.choices, default=RunState.RUNNING)
    started_at = UtcDateTimeField()
    finished_at = UtcDateTimeField(null=True)
    options = models.JSONField(default=dict)
    summary = models.JSONField(default=dict)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.id} {self.command} {self.state}"


SPELLING = ""
"""No field has this name."""


class Change(models.Model):
    """One step of a run, written before it is taken (or in the same transaction)."""

    id = models.BigAutoField(primary_key=True)
    run_id = models.CharField(max_length=40)
    kind = models.CharField(max_length=10, choices=ChangeKind.choices)
    state = models.CharField(
        max_length=8, choices=ChangeState.choices, default=ChangeState.INTENDED
    )
    database = models.CharField(max_length=100, blank=True, default="")
    model = models.CharField(max_length=200, blank=True, default="")
    """`app.Model` of the class whose table owns the column."""
    row = models.TextField(blank=True, default="")
    """The row's primary key as text; of a discarded copy, the run that made it."""
    field = models.CharField(max_length=200, blank=True, default="")
    path = models.TextField(blank=True, default="")
    """JSON pointer of the element; "" for the whole value."""
    shape = models.CharField(max_length=8, blank=True, default="")
    """"embedded" when `old` and `new` are addresses inside the longer text of the element."""
    made = models.JSONField(default=list)
    """Of an embedded address, for each `new` in the element, in order and as this change left it:
    whether it put it there; [] means all."""
    old = models.TextField(blank=True, default="")
    """The element before; of a quarantined object, its key; of an upload or removal, the source."""
    new = models.TextField(blank=True, default="")
    """The element after; of a quarantined object, where its copy lies."""
    old_key = models.TextField(blank=True, default="")
    """The key `old` meant; "" when it meant no object of the bucket."""
    key = models.TextField(blank=True, default="")
    sha256 = models.CharField(max_length=64, blank=True, default="")
    etag = models.CharField(max_length=255, blank=True, default="")
    bytes = models.BigIntegerField(null=True)
    extra = models.JSONField(default=dict)
    """Further columns of the row that followed: {field: [before, after]}; under `SPELLING`, how the
    element's JSON was escaped before."""
    at = UtcDateTimeField()

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["run_id", "id"], name="r2maint_change_run"),
            models.Index(fields=["at"], name="r2maint_change_at"),
            models.Index(
                fields=["sha256"],
                name="r2maint_change_upload",
                condition=models.Q(kind=ChangeKind.UPLOAD),
            ),
        ]

    @classmethod
    def check(cls, **kwargs: Any) -> list[CheckMessage]:
        """Leave out that MariaDB ignores the condition of the index: a whole one does there."""
        return [message for message in super().check(**kwargs) if message.id != "models.W037"]

    def __str__(self) -> str:
        return f"{self.run_id} {self.kind} {self.state}"


class Sighting(models.Model):
    """An object that a complete listing and a complete reading found to be an orphan."""

    id = models.BigAutoField(primary_key=True)
    bucket = models.CharField(max_length=512)
    key = models.TextField()
    key_digest = models.CharField(max_length=64)
    """SHA-256 of the key's identity, in hex: keys are too long for an index on every database."""
    etag = models.CharField(max_length=255)
    modified_at = UtcDateTimeField()
    circumstances = models.CharField(max_length=64)
    """Digest of the identity, settings and sources it was seen under."""
    first_seen_at = UtcDateTimeField()
    last_seen_at = UtcDateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["bucket", "key_digest"], name="r2maint_sighting_once")
        ]

    def __str__(self) -> str:
        return f"{self.bucket} {self.key}"


class Health(models.Model):
    """How what references name fared when it was last looked at, level by level."""

    id = models.BigAutoField(primary_key=True)
    bucket = models.CharField(max_length=512)
    level = models.CharField(max_length=8)
    subject = models.TextField()
    """What was judged: a URL, a key or a local file; without credentials and signatures."""
    digest = models.CharField(max_length=64)
    """SHA-256 of the whole subject, in hex."""
    failures = models.IntegerField()
    """Runs in a row, up to the last one that could tell."""
    first_failed_at = UtcDateTimeField(null=True)
    last_ok_at = UtcDateTimeField(null=True)
    last_seen_at = UtcDateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["bucket", "level", "digest"], name="r2maint_health_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.bucket} {self.subject}"


class Encoding(models.Model):
    """What a re-encoding made of a picture, or found of one that it left, under one key."""

    id = models.BigAutoField(primary_key=True)
    bucket = models.CharField(max_length=512)
    key = models.TextField()
    key_digest = models.CharField(max_length=64)
    """As in `Sighting`."""
    etag = models.CharField(max_length=255)
    """Of the object it is about: another one under this key was never looked at."""
    fingerprint = models.TextField()
    """Of the recipe last tried on it; "" when none was."""
    made_by = models.TextField(blank=True, default="")
    """The fingerprint of the recipe that made its bytes; "" for an original."""
    reason = models.CharField(max_length=32)
    """Why it is left: "already" for what the recipe made."""
    min_saving = models.FloatField()
    """Percent that had to be saved."""
    width = models.IntegerField(default=0)
    height = models.IntegerField(default=0)
    """As far as it is known; else 0."""
    bytes_before = models.BigIntegerField()
    bytes_after = models.BigIntegerField(null=True)
    """None unless it was made here, from `bytes_before`."""
    source_sha256 = models.CharField(max_length=64)
    """Of the bytes the recipe was tried on; "" where they were not read."""
    at = UtcDateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["bucket", "key_digest"], name="r2maint_encoding_once")
        ]

    def __str__(self) -> str:
        return f"{self.bucket} {self.key}"


class Snapshot(models.Model):
    """What a bucket held on one day: peaks as the bill counts them, all else as last seen."""

    id = models.BigAutoField(primary_key=True)
    bucket = models.CharField(max_length=512)
    day = models.DateField()
    """In UTC, by the bucket's clock."""
    standard_bytes = models.BigIntegerField()
    """The most that any run of the day found in this storage class."""
    infrequent_access_bytes = models.BigIntegerField()
    summary = models.JSONField(default=dict)
    """Of the day's last report."""
    groups = models.JSONField(default=dict)
    """The bytes of each group: {"type": {"png": 1024}, "prefix/2": {…}}."""
    at = UtcDateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["bucket", "day"], name="r2maint_snapshot_once")
        ]

    def __str__(self) -> str:
        return f"{self.bucket} {self.day}"


class Identity(models.Model):
    """Which bucket this database belongs to, and the nonce both last agreed on."""

    id = models.BigAutoField(primary_key=True)
    bucket = models.CharField(max_length=512, unique=True)
    owner_id = models.CharField(max_length=64)
    nonce = models.CharField(max_length=64)
    renewed_at = UtcDateTimeField()

    def __str__(self) -> str:
        return str(self.bucket)
