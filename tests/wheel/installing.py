"""The wheel as a user gets it: built, and installed where the source tree cannot be seen."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from tests.docs.sections import ROOT


def build(kind: str, target: Path, source: Path = ROOT) -> Path:
    """A ``wheel`` or ``sdist`` of the tree ``source``, as pip would build it."""
    program = (sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target))
    checked(*program, cwd=source)
    (made,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


class Environment:
    """A virtual environment that has the wheel and sees our third-party packages, nothing else."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        venv.create(folder, symlinks=True)
        self.python = folder / "bin" / "python"
        self.packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
        # Their folder alone: what its own .pth files add, our source tree, is not followed.
        (self.packages / "third_party.pth").write_text(sysconfig.get_path("purelib"))
        install = ("install", "--quiet", "--no-deps", "--no-index", str(wheel))
        quiet = "--disable-pip-version-check"
        checked(sys.executable, "-m", "pip", "--python", str(self.python), quiet, *install)

    def run(self, *arguments: str, folder: Path, **variables: str) -> str:
        """What Python prints that is started in ``folder`` with these arguments."""
        return checked(str(self.python), *arguments, cwd=folder, **variables)


def checked(*program: str, cwd: Path | None = None, **variables: str) -> str:
    """What a program prints; fails with what it said if it fails."""
    ended = subprocess.run(
        program,
        cwd=cwd,
        env={**clean_environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{program}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def clean_environment() -> dict[str, str]:
    """Ours, without what leads Python or Penstock to this tree."""
    led = ("PENSTOCK_", "PYTHON", "VIRTUAL_ENV")
    return {name: text for name, text in os.environ.items() if not name.startswith(led)}
