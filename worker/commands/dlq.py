"""``penstock dlq``: look at dead letters, and give them up or out."""

import base64
import getpass
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import click
import msgspec

from penstock.worker import migrate
from penstock.worker.commands.columns import columns
from penstock.worker.commands.letter_text import is_packed, read
from penstock.worker.errors import PenstockError
from penstock.worker.postgres.letter_box import (
    OPEN,
    Change,
    Filter,
    Letter,
    PostgresLetters,
    WholeLetter,
)
from penstock.worker.postgres.pool import database
from penstock.worker.settings.keys import Settings

AT_ONCE = 50
"""Letters whose content is in memory together."""

_ERROR_WIDTH = 60
_json = msgspec.json.Encoder().encode


@asynccontextmanager
async def letter_box(settings: Settings) -> AsyncIterator[PostgresLetters]:
    """The letters of the database. Raises SinkUnavailable, MigrationError."""
    settings = msgspec.structs.replace(settings, start_timeout=0)  # one attempt
    await migrate.require(settings.postgres_dsn, settings.event_packages)
    async with database(settings) as pool:
        yield PostgresLetters(pool)


async def show_list(settings: Settings, found: Filter, limit: int, *, as_json: bool) -> int:
    """Print letters without their content, oldest first."""
    async with letter_box(settings) as box:
        letters = await box.first(found, limit + 1)
    more, letters = len(letters) > limit, letters[:limit]
    if as_json:
        click.echo(_json([_public(letter) for letter in letters]))
    elif letters:
        titles = ("letter", "recorded", "status", "reason", "subject", "error")
        click.echo(columns(titles, map(_row, letters)), nl=False)
    if not letters:
        click.echo("no letter is like that", err=True)
    if more:
        click.echo(f"there are more: --after {letters[-1].letter_id}", err=True)
    return 0


async def show_one(settings: Settings, letter_id: int, *, as_json: bool) -> int:
    """Print everything about a letter, its body decoded. Raises PenstockError if there is none."""
    async with letter_box(settings) as box:
        letters = await box.whole([letter_id])
        if not letters:
            raise no_such([letter_id])
        changes = await box.changes(letter_id)
    if as_json:
        history = [msgspec.to_builtins(change) for change in changes]
        click.echo(_json({**document(letters[0]), "changes": history}))
    else:
        click.echo("\n".join(_lines(letters[0], changes)))
    return 0


async def export(settings: Settings, found: Filter) -> int:
    """Write letters with their content to standard output, one JSON object a line."""
    async with letter_box(settings) as box:
        ids = list(await box.ids(found))
        for part in parts(ids):
            for letter in await box.whole(part):
                click.echo(_json(document(letter)))
    click.echo(f"{len(ids)} letters", err=True)
    return 0


async def discard(
    settings: Settings, found: Filter, *, yes: bool, dry_run: bool, as_json: bool
) -> int:
    """Give up open letters; 1 if one of those named is not open any more."""
    async with letter_box(settings) as box:
        ids = await meant(box, found, OPEN)
        closed = [letter_id for letter_id, status in ids.items() if status not in OPEN]
        given_up: list[int] = []
        if not dry_run:
            confirm(f"discard {len(ids) - len(closed)} letters?", yes=yes)
            for part in parts(list(ids)):
                given_up += await box.discard(part, by())
    refused = [f"letter {found} is {ids[found]}: it cannot be discarded" for found in closed]
    if as_json:
        said = {"dry_run": dry_run, "discarded": len(given_up), "refused": closed}
        click.echo(_json({**said, "letters": list(ids) if dry_run else given_up}))
    else:
        word = "would be discarded" if dry_run else "discarded"
        click.echo(f"{len(ids) - len(closed) if dry_run else len(given_up)} letters {word}")
        click.echo("".join(f"{line}\n" for line in refused), nl=False, err=True)
    return int(bool(closed))


async def meant(box: PostgresLetters, found: Filter, statuses: Sequence[str]) -> dict[int, str]:
    """The ids that are meant, with their statuses; a filter without one means ``statuses``.

    Raises PenstockError if there are none, or a letter that is named is not there.
    """
    if found.ids is None and found.statuses is None:
        found = msgspec.structs.replace(found, statuses=statuses)
    ids = await box.ids(found)
    if found.ids is not None and (missing := sorted(set(found.ids) - set(ids))):
        raise no_such(missing)
    if not ids:
        raise PenstockError("no letter is like that: nothing is changed; see `penstock dlq list`")
    return ids


def no_such(ids: Sequence[int]) -> PenstockError:
    """What to say of letters that are not there."""
    named = ", ".join(map(str, ids))
    return PenstockError(f"no letter {named}: nothing is changed; see `penstock dlq list`")


def confirm(question: str, *, yes: bool) -> None:
    """Raises PenstockError if there is nobody to ask, click.Abort if the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise PenstockError(f"{question} Nobody can be asked here: say --yes")
    click.confirm(question, abort=True, err=True)


def by() -> str:
    """Who does this, as far as this machine knows."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):  # a container without a name for its user
        return f"{os.getuid()}@{socket.gethostname()}"


def parts(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Ids in pieces, whose letters fit into memory."""
    return (ids[at : at + AT_ONCE] for at in range(0, len(ids), AT_ONCE))


def headers_of(letter: WholeLetter) -> Mapping[str, str]:
    """The headers as text."""
    found: dict[str, str] = msgspec.json.decode(letter.headers or b"{}")
    return found


def _public(letter: Letter) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(letter)
    return found


def document(letter: WholeLetter) -> dict[str, Any]:
    """A letter with its content for other programs: bytes exactly in base64, the rest to read."""
    headers = headers_of(letter)
    text, form = read(letter.body, packed=is_packed(headers))
    plain = {name: getattr(letter, name) for name in Letter.__struct_fields__}
    return {
        **plain,
        "headers": headers,
        "body": text,
        "body_format": form,
        "body_base64": base64.b64encode(letter.body).decode(),
        "raw_headers_base64": base64.b64encode(letter.raw_headers).decode(),
    }


def _row(letter: Letter) -> tuple[str, ...]:
    error = " ".join((letter.error or "").split())
    return (
        str(letter.letter_id),
        f"{letter.recorded_at:%Y-%m-%d %H:%M:%S}",
        letter.status,
        letter.reason,
        letter.subject or "-",
        error if len(error) <= _ERROR_WIDTH else f"{error[: _ERROR_WIDTH - 1]}…",
    )


def _lines(letter: WholeLetter, changes: Sequence[Change]) -> Iterator[str]:
    """A letter for a person."""
    for name in Letter.__struct_fields__:
        if (value := getattr(letter, name)) is not None:
            yield f"{name:12} {value}"
    headers = headers_of(letter)
    yield from (f"header       {name}: {value}" for name, value in headers.items())
    for change in changes:
        who = f"{change.changed_by or '?'} ({change.role})"
        yield f"change       {change.recorded_at} {change.before} -> {change.after} by {who}"
        if change.reason != letter.reason or change.error != letter.error:
            yield f"             before: {change.reason}: {change.error}"
    text, form = read(letter.body, packed=is_packed(headers))
    yield f"\nbody, {form}:\n{text}"
    if letter.sent_body is not None:
        text, form = read(letter.sent_body, packed=is_packed(headers))
        yield f"\nbody as it was sent last, {form}:\n{text}"
