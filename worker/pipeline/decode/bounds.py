"""What a JSON document may become: jsonb writes numbers out, so 8 bytes can turn into 131 KB.

PostgreSQL keeps a number as its decimal digits: ``1e131071`` is short on the wire and long wherever
it is read. One rule for all encodings and brokers (docs/decisions/0022-what-numbers-may-be.md):

- a number has at most 1,000 digits before its point, 1,000 after it, and an exponent up to 999;
- with its numbers written out, a document is no larger than an event may be.

To look for such numbers in each document would cost as much as to decode it. So all of a batch are
looked at together, for the shape of a number that may break the rule; nearly never there is one.
"""

import re
from collections.abc import Sequence

from msgspec import Raw

from penstock.worker.pipeline.decode.reasons import Reject

SHORTEST = len("1e999")
"""Bytes of the shortest number that takes as many digits as it may."""

_DIGITS = 1_000
_EXPONENT = 999
_TOGETHER = 64
"""Documents in one look: so few that their copies stay in the processor's cache."""

_SHOWN = 40

_PARTS = {b"0123456789": b"0", b"eE": b"e", b"+-": b"-", b",]} \t\r\n": b","}
_SHAPE = bytes(
    next((part[0] for those, part in _PARTS.items() if byte in those), ord("x"))
    for byte in range(256)
)
"""Every byte by the part that it may have in a number, or after one."""

_long_exponent = re.compile(rb"0[e]-?0000+(?:,|\Z)").search
"""Looks for one byte, a digit, first. What ends a number tells it from a UUID with ``3e-1111-``."""

_LONG_NUMBER = b"0" * (_DIGITS + 1)

_exponents = re.compile(rb"0[e]").findall

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_numbers = re.compile(
    _STRING + rb"|-?([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?", re.DOTALL
).finditer


def may_explode(documents: Sequence[Raw]) -> bool:
    """False if surely no number in any of these has too many digits, or an exponent above 999."""
    for at in range(0, len(documents), _TOGETHER):
        shape = b" ".join(documents[at : at + _TOGETHER]).translate(_SHAPE)
        if _LONG_NUMBER in shape or _long_exponent(shape):
            return True
    return False


def smallest(limit: int) -> int:
    """Bytes up to which a document that obeys the first rule obeys the second too."""
    return limit * SHORTEST // _EXPONENT


def check_large(raw: Raw, limit: int) -> None:
    """Raise Reject if ``raw`` takes more than ``limit`` bytes with its numbers written out."""
    size = len(raw)
    if size > limit:
        raise Reject("too_large", f"{size} bytes of JSON, more than max_event_bytes = {limit}")
    if size + len(_exponents(bytes(raw).translate(_SHAPE))) * _EXPONENT > limit:
        size += check_numbers(raw)
        if size > limit:
            raise Reject("too_large", f"{size} bytes, its numbers written out, more than {limit}")


def check_numbers(raw: Raw) -> int:
    """The sum of all exponents. Raises Reject if a number has more digits than it may."""
    total = 0
    for found in _numbers(raw):
        whole, fraction, exponent = found.groups(b"")
        if not whole:  # a string
            continue
        if len(whole) > _DIGITS or len(fraction) > _DIGITS:
            raise Reject("out_of_range", f"{_shown(found[0])} has more than {_DIGITS} digits")
        shift = exponent.lstrip(b"+-").lstrip(b"0")
        if len(shift) > len(str(_EXPONENT)):
            raise Reject("out_of_range", f"{_shown(found[0])} has an exponent above {_EXPONENT}")
        total += int(shift or 0)
    return total


def _shown(number: bytes) -> str:
    text = number.decode()
    return f"the number {text}" if len(text) <= _SHOWN else f"the number {text[:_SHOWN]}..."
