"""What a replay came to, and what it could not give back."""

import msgspec

from penstock.worker.replay.account import Account


class Cannot(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a history cannot give back of events of ``type``: all of them, or as many as are counted
    in ``events``. They are in ``stream``, as far as it still has them.
    """

    type: str
    what: str
    stream: str = ""
    events: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay came to. ``number`` is its row of bus.replay, None if nothing was written;
    ``mended`` has the tables whose sums were set right, with the number of rows; ``went_on`` says
    whether the run had begun in an earlier process.
    """

    number: int | None
    account: Account
    finished: bool
    seconds: float
    messages: int
    mended: dict[str, int]
    cannot: tuple[Cannot, ...]
    went_on: bool
