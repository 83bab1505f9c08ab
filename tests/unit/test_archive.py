"""Files of partitions: names that are free, and disks that are full."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from penstock.worker.archive.manifest import Column, Manifest, describe, read, reserved
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


def test_each_export_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Those of two databases with one folder too, at the same moment."""
    with reserved(tmp_path, "s.t") as first, reserved(tmp_path, "s.t") as second:
        assert (first.name, second.name) == ("s.t.parquet", "s.t.2.parquet")
        first.write_bytes(b"PAR1")
        describe(first, MADE)
    first.unlink()
    with reserved(tmp_path, "s.t") as third:
        assert third.name == "s.t.3.parquet", "what has a manifest is complete"
    with suppress(KeyError), reserved(tmp_path, "a/../b") as given_back:
        assert given_back.parent == tmp_path
        raise KeyError
    assert not given_back.exists()


def test_a_file_that_is_not_what_its_manifest_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / MADE.file
    path.write_bytes(b"PAR1")
    describe(path, MADE)
    with pytest.raises(PenstockError, match="its manifest says 0000"):
        read(path)


def test_where_nothing_can_be_written_is_named(tmp_path: Path) -> None:
    (file := tmp_path / "file").touch()
    with pytest.raises(PenstockError, match="give archive_folder"), reserved(file, "s.t"):
        raise AssertionError


def test_a_full_disk_is_named() -> None:
    with pytest.raises(PenstockError, match="no space left on device; give archive_folder"):
        _fill(ParquetFile(Path("/dev/full"), [COLUMN]))


def _fill(file: ParquetFile) -> None:
    try:
        file.write([(n,) for n in range(100_000)])
    finally:
        file.close()
