"""The systemd unit, by systemd's own checks where it is installed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.worker.settings.keys import SETTINGS, load
from penstock.worker.settings.sources import variable
from tests.docs.sections import ROOT

UNIT = ROOT / "deploy" / "systemd" / "penstock.service"
TEXT = UNIT.read_text()

analyzed = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="not run: no systemd-analyze here"
)


def analyze(*arguments: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, done.stderr


@analyzed
def test_systemd_accepts_it(tmp_path: Path) -> None:
    """With a program that is there: that it may be missing here is no fault of the unit."""
    copy = tmp_path / UNIT.name
    copy.write_text(TEXT.replace("/opt/penstock/bin/penstock", sys.executable))
    analyze("verify", "--man=no", str(copy))


@analyzed
def test_what_it_may_do_is_little(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(TEXT)
    analyze("security", "--offline=true", "--no-pager", "--threshold=20", str(copy))


def test_it_has_longer_to_stop_than_it_takes() -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", TEXT, re.MULTILINE)
    assert int(seconds) >= load({}, {}).drain_timeout + 15
    assert "\nKillMode=mixed\n" in TEXT


def test_every_setting_exists() -> None:
    named = set(re.findall(r"^Environment=(PENSTOCK_\w+)=", TEXT, re.MULTILINE))
    secrets = {f"{variable(key)}_FILE" for key, found in SETTINGS.items() if found.secret}
    assert named
    assert named <= {variable(key) for key in SETTINGS} | secrets
