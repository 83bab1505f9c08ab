"""What a command is at, on a terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

CLEAR_LINE = "\r\x1b[K"


@contextmanager
def said(what: str) -> Iterator[None]:
    """What is being looked at, and since when; nothing stays of it."""
    if not sys.stderr.isatty():
        yield
        return
    click.echo(f"{time.strftime('%H:%M:%S')} {what} ...", nl=False, err=True)
    try:
        yield
    finally:
        click.echo(CLEAR_LINE, nl=False, err=True)
