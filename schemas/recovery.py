"""Events about backups, and about trying them out. The key is the backup or the test.

Whoever makes backups says so over the bus, and needs no right to the database for it.
"""

from penstock.schemas.event import Big, Event, EventData, Json, Moment, Text
from penstock.schemas.identity import BackupId, RecoveryTestId
from penstock.schemas.mapping import KEY_TEXT, OCCURRED_AT, AuditLog, Computed, Ref, Upsert, event
from penstock.schemas.vocabulary import (
    BackupKind,
    LongText,
    RecoveryKind,
    RecoveryStatus,
    TaskStatus,
    Title,
)

BACKUP = ("kind", "place", "lsn", "stream_seqs", "started_at")
BACKUP_OUTCOME = ("status", "bytes", "manifest", "error", "finished_at")
BACKUP_CHECK = ("verified_at", "verify_error")
TEST = ("kind", "backup_id", "target", "started_at")
TEST_OUTCOME = ("status", "verified", "metrics", "errors", "notes", "finished_at")
IDENTITY = {"external_id": KEY_TEXT}
BEGINNING = {**IDENTITY, "started_at": OCCURRED_AT}
ENDING = {**IDENTITY, "finished_at": OCCURRED_AT}


def time_if_sound(e: Event) -> Moment | None:
    """When the backup was found to be sound; None if it was not."""
    return e.time if e.data.error is None else None


def error_of_check(e: Event) -> LongText | None:
    """Why the backup is not sound."""
    error: str | None = e.data.error
    return error


@event(
    "backups.started",
    key="backup_id",
    history=AuditLog("backup"),
    states=(
        Upsert(
            table="recovery.backup",
            key=("backup_id",),
            first=BACKUP,
            last=BACKUP_OUTCOME,
            guard="outcome",
            once=("external_id",),
            values={**BEGINNING, "status": TaskStatus.RUNNING},
        ),
    ),
)
class BackupStarted(EventData, frozen=True, kw_only=True):
    """Somebody began to make a backup.

    ``stream_seqs`` are the last sequences of the streams, and ``lsn`` where PostgreSQL's log was,
    both taken before anything is copied: a replay from there on closes the gap.
    """

    backup_id: BackupId
    kind: BackupKind
    place: Title | None = None
    lsn: Text | None = None
    stream_seqs: dict[Text, Big] | None = None


@event(
    "backups.finished",
    key="backup_id",
    history=AuditLog("backup"),
    states=(
        Upsert(
            table="recovery.backup",
            key=("backup_id",),
            last=BACKUP_OUTCOME,
            guard="outcome",
            once=("external_id",),
            values=ENDING,
        ),
    ),
)
class BackupFinished(EventData, frozen=True, kw_only=True):
    """A backup was ``completed``, or it ``failed``; ``manifest`` lists its files and digests."""

    backup_id: BackupId
    status: TaskStatus
    bytes: Big | None = None
    manifest: Json = None
    error: LongText | None = None


@event(
    "backups.verified",
    key="backup_id",
    history=AuditLog("backup"),
    states=(
        Upsert(
            table="recovery.backup",
            key=("backup_id",),
            last=BACKUP_CHECK,
            guard="check",
            once=("external_id",),
            values={
                **IDENTITY,
                "verified_at": Computed(time_if_sound),
                "verify_error": Computed(error_of_check),
            },
        ),
    ),
)
class BackupVerified(EventData, frozen=True, kw_only=True):
    """Somebody compared a backup with its manifest; ``error`` is what does not fit."""

    backup_id: BackupId
    error: LongText | None = None


@event(
    "recovery.test_started",
    key="test_id",
    history=AuditLog("recovery_test"),
    states=(
        Upsert(
            table="recovery.test_result",
            key=("test_id",),
            first=TEST,
            last=TEST_OUTCOME,
            guard="outcome",
            once=("external_id",),
            values={**BEGINNING, "status": RecoveryStatus.RUNNING},
        ),
    ),
    refs=(Ref("backup_id", "recovery.backup"),),
)
class RecoveryTestStarted(EventData, frozen=True, kw_only=True):
    """Somebody began to try a recovery out. ``target`` is where to, or up to which moment."""

    test_id: RecoveryTestId
    kind: RecoveryKind
    backup_id: BackupId | None = None
    target: Title | None = None


@event(
    "recovery.test_finished",
    key="test_id",
    history=AuditLog("recovery_test"),
    states=(
        Upsert(
            table="recovery.test_result",
            key=("test_id",),
            last=TEST_OUTCOME,
            guard="outcome",
            once=("external_id",),
            values=ENDING,
        ),
    ),
)
class RecoveryTestFinished(EventData, frozen=True, kw_only=True):
    """How trying a recovery out went.

    ``verified`` says that what was recovered was compared and is the same; ``metrics`` such as how
    long it took and how much was lost.
    """

    test_id: RecoveryTestId
    status: RecoveryStatus
    verified: bool = False
    metrics: Json = None
    errors: Json = None
    notes: LongText | None = None
