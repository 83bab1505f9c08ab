"""Backups of every night, and one that was restored to see whether it can be."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from penstock.schemas.recovery import (
    BackupFinished,
    BackupStarted,
    BackupVerified,
    RecoveryTestFinished,
    RecoveryTestStarted,
)
from penstock.schemas.vocabulary import BackupKind, RecoveryKind, RecoveryStatus, TaskStatus
from penstock.worker.seed.company import Company
from penstock.worker.seed.said import Said


def tell(company: Company) -> Iterator[Said]:
    """The second night's backup found no room; the first one was tried out."""
    random = company.random("recovery")
    for number, at in enumerate(company.every(timedelta(days=1))):
        took = timedelta(minutes=random.randint(8, 20))
        yield from _backup(company, number, at + timedelta(hours=2), took)
    yield from _tried(company, company.since + timedelta(hours=9))


def _backup(company: Company, number: int, at: datetime, took: timedelta) -> Iterator[Said]:
    backup = company.name("backup", number)
    started = BackupStarted(
        backup_id=backup,
        kind=BackupKind.BASE,
        place=f"s3://backups/{backup}",
        lsn=f"0/{0x5000000 + 0x1000000 * number:X}",
        stream_seqs={"TASK_EXECUTION": 900 * number + 17, "PLATFORM": 40 * number + 3},
    )
    yield Said(at, started, "radia")
    if number == 1:
        failed = BackupFinished(
            backup_id=backup, status=TaskStatus.FAILED, error="no space left on device"
        )
        yield Said(at + took, failed, "radia")
        return
    finished = BackupFinished(
        backup_id=backup,
        status=TaskStatus.COMPLETED,
        bytes=4_200_000_000 + 90_000_000 * number,
        manifest={"base.tar.zst": f"{number:064x}"},
    )
    yield Said(at + took, finished, "radia")
    yield Said(at + 2 * took, BackupVerified(backup_id=backup), "radia")


def _tried(company: Company, at: datetime) -> Iterator[Said]:
    test = company.name("recovery-test", 0)
    started = RecoveryTestStarted(
        test_id=test,
        kind=RecoveryKind.FULL_RESTORE,
        backup_id=company.name("backup", 0),
        target="scratch",
    )
    yield Said(at, started, "radia")
    finished = RecoveryTestFinished(
        test_id=test,
        status=RecoveryStatus.PASSED,
        verified=True,
        metrics={"restore_minutes": 26, "lost_minutes": 0},
    )
    yield Said(at + timedelta(minutes=31), finished, "radia")
