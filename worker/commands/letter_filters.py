"""Which dead letters a command is about: the options that all commands share."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from penstock.worker.errors import PenstockError
from penstock.worker.settings.kinds import duration

if TYPE_CHECKING:
    from penstock.worker.postgres.letter_box import Filter

STATUSES = ("kept", "requeued", "rejected", "stored", "discarded")
_DURATION = duration()


class _Moment(click.ParamType[datetime]):
    """A time with an offset from UTC, or how long ago."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, datetime):
            return value
        try:
            return datetime.now(UTC) - timedelta(seconds=_DURATION.parse(value))
        except ValueError:
            pass
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail(f"{value!r} is no time: give 2h, 7d or 2026-11-01T00:00:00Z", param, ctx)
        return moment


_OPTIONS = (
    click.option(
        "--status", "statuses", type=click.Choice(STATUSES), multiple=True, help="May be repeated."
    ),
    click.option("--reason", metavar="REASON", help="One of the closed list of reasons."),
    click.option("--type", "event_type", metavar="TYPE", help="Type of the event, if it says one."),
    click.option("--subject", "subject", metavar="PATTERN", help="As in tasks.*.updated, agents.>"),
    click.option("--stream", metavar="STREAM", help="Stream or queue that it came from."),
    click.option("--error", metavar="TEXT", help="Text in the error, in any case."),
    click.option(
        "--since", type=_Moment(), metavar="TIME", help="Kept since; 2h is two hours ago."
    ),
    click.option("--until", type=_Moment(), metavar="TIME", help="Kept before."),
)


def letter_filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command; it gets them by name, for `wanted`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def wanted(ids: tuple[int, ...] = (), after: int = 0, **options: Any) -> "Filter":
    """The letters that ``ids`` and options mean."""
    from penstock.worker.postgres.letter_box import Filter  # noqa: PLC0415  (help loads no driver)

    subject = options["subject"]
    given = {
        **options,
        "statuses": options["statuses"] or None,
        "subject": None if subject is None else _expression(subject),
    }
    return Filter(ids=ids or None, after=after, **given)


def some(ids: tuple[int, ...], **options: Any) -> "Filter":
    """As `wanted`, for a command that changes letters: never all of them by accident."""
    if not ids and not any(options.values()):
        raise click.UsageError("say which letters: by their ids, or by a filter such as --reason")
    return wanted(ids, **options)


def _expression(pattern: str) -> str:
    """A subject with wildcards as a regular expression of PostgreSQL."""
    words = pattern.split(".")
    if not all(words):
        raise PenstockError(f"--subject {pattern!r}: no token may be empty, as in tasks.*.updated")
    parts = ["[^.]+" if word == "*" else re.escape(word) for word in words]
    if words[-1] == ">":
        parts[-1] = ".+"
    return f"^{'[.]'.join(parts)}$"
