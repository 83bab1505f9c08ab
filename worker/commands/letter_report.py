"""What became of dead letters that were sent again, as a command tells it."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
import msgspec

_SHOWN = 20
"""Letters that are reported one by one; further ones are only counted."""


class Result(msgspec.Struct, kw_only=True):
    """What became of one letter: its ``status`` now, and what is wrong with it. ``sent`` is False
    if the broker has not taken it, or did not confirm it.
    """

    letter_id: int
    status: str
    sent: bool = True
    reason: str | None = None
    error: str | None = None


@contextmanager
def progress(letters: int) -> Iterator[Callable[[int], object]]:
    """A function to call with the number of letters done; it draws a bar on a terminal, with rate
    and time left.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    begun = time.monotonic()
    bar: Any = click.progressbar(
        length=letters,
        label="requeueing",
        file=sys.stderr,
        item_show_func=lambda _: f"{bar.pos / max(1e-3, time.monotonic() - begun):.0f}/s",
    )
    with bar:
        yield bar.update


def tell_dry(ids: Sequence[int], *, as_json: bool) -> None:
    """Print which letters would be sent."""
    if as_json:
        click.echo(msgspec.json.encode({"dry_run": True, "letters": ids}))
    else:
        click.echo(f"{len(ids)} letters would be sent")


def tell(results: Sequence[Result], *, as_json: bool) -> int:
    """Print what became of them; 1 if something needs a person."""
    counts = Counter(one.status if one.sent else "refused" for one in results)
    told = {name: counts[name] for name in ("stored", "rejected", "refused", "requeued")}
    if as_json:
        click.echo(msgspec.json.encode({**told, "letters": results}))
    else:
        click.echo(
            f"{told['stored']} stored, {told['rejected']} rejected, {told['refused']} not sent, "
            f"{told['requeued']} sent without an answer yet"
        )
    wrong = [one for one in results if one.error is not None]
    for one in wrong[:_SHOWN]:
        click.echo(f"letter {one.letter_id} {_what(one)}", err=True)
    if told["requeued"]:
        click.echo("see `penstock dlq list --status requeued`, and that a worker runs", err=True)
    return int(bool(wrong))


def _what(result: Result) -> str:
    said = f"{result.reason}: {result.error}" if result.reason else result.error
    if result.sent:
        return (
            f"is still wrong: {said}; correct it: `penstock dlq requeue {result.letter_id} --edit`"
        )
    return f"was not sent, or not confirmed: {said}"
