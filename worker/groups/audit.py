"""``penstock audit``: parsing only."""

import asyncio
import re
from datetime import datetime

import click

from penstock.worker.flags import SettingsCommand, configure_logs, moment
from penstock.worker.settings.keys import Settings

_known = re.compile(r"([0-9]{1,18}):([0-9A-Fa-f]{64})").fullmatch


def _seals(_ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[int, str]:
    """Digests by the number of the seal. Raises BadParameter."""
    found = {}
    for value in values:
        match = _known(value)
        if match is None:
            said = "is no seal and its digest, as in 42:9f86d081..., with 64 hexadecimal digits"
            raise click.BadParameter(f"{value!r} {said}", param=param)
        found[int(match[1])] = match[2].lower()
    return found


@click.group()
def audit() -> None:
    """Look whether somebody changed the audit history."""


@audit.command(cls=SettingsCommand, reads="audit")
@click.option(
    "--since",
    callback=moment,
    metavar="TIME",
    help="Only what was sealed since then: 25h, or 2026-03-01T12:00:00Z.",
)
@click.option(
    "--expect",
    "known",
    multiple=True,
    callback=_seals,
    metavar="SEAL:DIGEST",
    help="A seal that you kept elsewhere; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(
    settings: Settings, since: datetime | None, known: dict[int, str], *, as_json: bool
) -> int:
    """Compare the history with its seals; exit with 1 if it was changed, with 2 if it cannot look.

    Names the first broken link of the chain, and what was done: rows that were changed, removed,
    inserted or reordered.
    """
    from penstock.worker.commands import audit as auditing  # noqa: PLC0415

    configure_logs("warning", settings.log_format)
    return asyncio.run(auditing.verify(settings, since, known, as_json=as_json))
