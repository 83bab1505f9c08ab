"""The manifest of an exported partition, and the files of both."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path

import msgspec

from penstock.worker.errors import PenstockError
from penstock.worker.wording import why

_FORMAT = 1
_SUFFIX = ".manifest.json"


class Column(msgspec.Struct, frozen=True):
    """``type`` is PostgreSQL's, with its schema and modifier; ``base`` what it is based on."""

    name: str
    type: str
    base: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a file holds: ``rows`` of the partition ``partition`` of ``schema.table``, which spans
    ``lower`` (None: since ever) to ``upper``. ``file`` is its name, beside the manifest.
    """

    schema: str
    table: str
    partition: str
    lower: datetime | None
    upper: datetime
    columns: tuple[Column, ...]
    rows: int
    file: str
    bytes: int
    sha256: str
    exported_at: datetime
    format: int = _FORMAT


@contextmanager
def reserved(folder: Path, title: str) -> Iterator[Path]:
    """A name for the file of a partition that nobody else takes, whatever other databases have the
    same folder; given back if nothing comes of it. Raises PenstockError if the folder does not let
    us.

    What an export that was killed leaves has no manifest, and keeps its name until it is deleted.
    """
    path = _reserve(folder, title.replace("/", "_"))
    try:
        yield path
    except BaseException:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise


def _reserve(folder: Path, title: str) -> Path:
    number = 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            path = folder / (f"{title}.parquet" if number == 1 else f"{title}.{number}.parquet")
            with suppress(FileExistsError):
                if not manifest_of(path).exists():
                    path.touch(exist_ok=False)
                    return path
            number += 1
    except OSError as error:
        raise unwritable(folder / title, error) from error


def manifest_of(path: Path) -> Path:
    """The manifest of a Parquet file."""
    return path.with_name(f"{path.name.removesuffix('.parquet')}{_SUFFIX}")


def describe(path: Path, manifest: Manifest) -> Path:
    """Write the manifest of a file. Until then the file counts as unfinished."""
    where = manifest_of(path)
    with whole(where) as unfinished:
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        unfinished.write_bytes(text + b"\n")
    return where


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write a file under, which gets its own name once it is complete and on disk. Raises
    PenstockError if the folder does not let us.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        yield unfinished
        _sync(unfinished)
        unfinished.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> PenstockError:
    """That a file cannot be written, and what to do."""
    return PenstockError(
        f"cannot write {path}: {why(error)}; give archive_folder a place with room that may be "
        "written to"
    )


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises OSError."""
    with path.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def read(path: Path) -> tuple[Manifest, Path]:
    """A manifest and its file, by the path of either. Raises PenstockError if either is missing or
    the file is not the one that was exported.
    """
    where = path if path.name.endswith(_SUFFIX) else manifest_of(path)
    try:
        manifest = msgspec.json.decode(where.read_bytes(), type=Manifest)
        file = where.with_name(manifest.file)
        found = checksum(file)
    except OSError as error:
        raise PenstockError(
            f"cannot read {error.filename}: {why(error)}; an archived partition is a .parquet "
            f"file and its {_SUFFIX} in one folder"
        ) from error
    except msgspec.MsgspecError as error:
        raise PenstockError(f"{where} is no manifest of a partition: {error}") from error
    if manifest.format != _FORMAT:
        raise PenstockError(
            f"{where} has format {manifest.format}, this Penstock reads {_FORMAT}; use the version "
            "that wrote it"
        )
    if found != manifest.sha256:
        raise PenstockError(
            f"{file} has the SHA-256 {found}, its manifest says {manifest.sha256}: the file is "
            "damaged or another one; take a copy from your backup"
        )
    return manifest, file


def now() -> datetime:
    """The present moment, as manifests have it."""
    return datetime.now(UTC)
