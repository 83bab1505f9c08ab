"""Files of partitions: names that are free, and disks that are full."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from penstock.worker.archive.manifest import Column, Manifest, describe, free_name, read
from penstock.worker.archive.parquet import ParquetFile
from penstock.worker.errors import PenstockError

COLUMN = Column("n", "bigint", "bigint")
MADE = Manifest(
    schema="s",
    table="t",
    partition="t_y2026m01",
    lower=None,
    upper=datetime(2026, 2, 1, tzinfo=UTC),
    columns=(COLUMN,),
    rows=1,
    file="s.t.parquet",
    bytes=4,
    sha256="0" * 64,
    exported_at=datetime(2026, 3, 1, tzinfo=UTC),
)


def test_what_is_complete_is_never_overwritten(tmp_path: Path) -> None:
    first = free_name(tmp_path, "s.t")
    first.write_bytes(b"PAR1")
    assert free_name(tmp_path, "s.t") == first, "a file without a manifest is unfinished"
    describe(first, MADE)
    assert free_name(tmp_path, "s.t").name == "s.t.2.parquet"
    assert free_name(tmp_path, "a/../b").parent == tmp_path
    with pytest.raises(PenstockError, match="its manifest says 0000"):
        read(first)


def test_a_full_disk_is_named() -> None:
    with pytest.raises(PenstockError, match="no space left on device; give archive_folder"):
        _fill(ParquetFile(Path("/dev/full"), [COLUMN]))


def _fill(file: ParquetFile) -> None:
    try:
        file.write([(n,) for n in range(100_000)])
    finally:
        file.close()
