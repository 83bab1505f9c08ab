"""Migration files: finding, naming and reading them."""

import importlib.util
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from penstock.worker.errors import MigrationError

PACKAGE = "penstock"
"""The package name of Penstock's own migrations. A user's package has the name of its module."""

_FILE = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+)\.(?P<way>up|down)\.sql")


class Script(msgspec.Struct, frozen=True):
    """One file: its name, its text, and the SHA-256 of that text in hex."""

    name: str
    text: str
    checksum: str


class Migration(msgspec.Struct, frozen=True):
    """One migration: its number, its name and its two files."""

    package: str
    version: int
    name: str
    up: Script
    down: Script


def find(package: str) -> list[Migration]:
    """The migrations of Penstock, or of the importable module ``package``, in order.

    A module without a folder ``migrations`` has none. Raises MigrationError.
    """
    if package == PACKAGE:
        return read(package, Path(__file__).parents[2] / "migrations")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError) as error:
        raise MigrationError(f"event package {package!r} cannot be imported: {error}") from error
    if spec is None or spec.origin is None:
        raise MigrationError(
            f"event package {package!r} is not a module that can be imported; install it, "
            "or put its folder on PYTHONPATH"
        )
    folder = Path(spec.origin).parent / "migrations"
    return read(package, folder) if folder.is_dir() else []


def new(name: str, folder: Path) -> tuple[Path, Path]:
    """Create the two files of the next migration in ``folder``; returns (up, down)."""
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not slug:
        raise MigrationError(
            f"{name!r} has no letter or digit: name the migration after what it changes"
        )
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{len(read(PACKAGE, folder)) + 1:04d}_{slug}"
    up, down = folder / f"{stem}.up.sql", folder / f"{stem}.down.sql"
    up.write_text(f"-- {name}\n", encoding="utf-8")
    down.write_text(f"-- Reverts: {name}\n", encoding="utf-8")
    return up, down


def read(package: str, folder: Path) -> list[Migration]:
    """The migrations in ``folder``, in order. Raises MigrationError for wrong names or numbers."""
    files: dict[tuple[int, str], Path] = {}
    for path in sorted(folder.glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise MigrationError(
                f"{path.name}: not named NNNN_name.up.sql or NNNN_name.down.sql; rename it"
            )
        key = (int(match["version"]), match["way"])
        if key in files:
            raise MigrationError(
                f"{path.name} and {files[key].name} have the same number; renumber one"
            )
        files[key] = path
    versions = sorted({version for version, _ in files})
    if versions != list(range(1, len(versions) + 1)):
        raise MigrationError(
            f"the migrations of {package} are numbered {versions}; number them from 1, with no gap"
        )
    return [_migration(package, version, files) for version in versions]


def _migration(package: str, version: int, files: Mapping[tuple[int, str], Path]) -> Migration:
    up, down = files.get((version, "up")), files.get((version, "down"))
    if up is None or down is None:
        alone = (up or down or Path(str(version))).name
        raise MigrationError(
            f"{alone}: its reverse file is missing; each needs an up and a down file"
        )
    stem = up.name.removesuffix(".up.sql")
    if stem != down.name.removesuffix(".down.sql"):
        raise MigrationError(f"{up.name} and {down.name} have different names; rename one of them")
    name = stem.partition("_")[2]
    return Migration(package, version, name, _script(up), _script(down))


def _script(path: Path) -> Script:
    """The file with Unix line endings, which a checkout may have converted."""
    text = path.read_text(encoding="utf-8")
    return Script(path.name, text, sha256(text.encode()).hexdigest())
