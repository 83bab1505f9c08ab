"""What the server says against the arguments of a queue or an exchange, and what they would do.

It compares them only when one is declared, and names one difference at a time.
"""

import re
from collections.abc import Mapping
from typing import Any

from penstock.worker.difference import Difference

_difference = re.compile(
    r"inequivalent arg '([^']+)' for .*: received (.+) but current is (.+)$", re.DOTALL
).search
_value = re.compile(r"(?:the value )?'(.*?)'(?: of type '(\w+)')?", re.DOTALL).fullmatch

_MEANING: Mapping[str, str] = {
    "x-message-ttl": "what waits longer is taken out, read or not; ",
    "x-expires": "the queue is deleted, with what it holds, once nobody reads it for so long; ",
    "x-max-length": "what is too much is dropped or refused; ",
    "x-max-length-bytes": "what is too much is dropped or refused; ",
    "x-max-age": "what is older is dropped, read or not; ",
    "x-overflow": "drop-head drops the oldest message, reject-publish tells the publisher; ",
    "x-dead-letter-exchange": "what the server gives up goes elsewhere, or is dropped; ",
    "x-dead-letter-routing-key": "what the server gives up goes elsewhere; ",
    "x-dead-letter-strategy": "what the server gives up may be lost on its way; ",
    "x-delivery-limit": "the server gives up what was returned so often; ",
    "alternate-exchange": "what no queue takes goes there, and its publisher is not told; ",
    "durable": "it is lost with the server; ",
    "auto_delete": "it is deleted with its last consumer; ",
}
"""How events are lost, or go elsewhere, by settings that are not as planned."""


def adopt(arguments: dict[str, Any], refusal: str) -> bool:
    """Take the present value over, so that the next difference is named. False if that is all."""
    found = _difference(refusal)
    if found is None or not found[1].startswith("x-"):
        return False
    value = _value(found[3])
    if value is not None:
        arguments[found[1]] = value[1] if value[2] in {None, "longstr"} else int(value[1])
    else:
        arguments.pop(found[1], None)
    return True


def unlike(title: str, refusal: str) -> Difference:
    """The difference that the server names."""
    found = _difference(refusal)
    setting, wanted, present = found.groups() if found else ("arguments", "as planned", refusal)
    wanted, present = _plain(wanted), _plain(present)
    return Difference(
        what=f"{title}: {setting}",
        found=present,
        wanted=wanted,
        remedy=f"{_MEANING.get(setting, '')}it cannot be changed; drain it, delete it, then run "
        "`penstock provision`",
        # Any kind of work queue will do, but a stream is read in another way.
        fatal=setting == "type" or (setting == "x-queue-type" and "stream" in wanted + present),
    )


def _plain(shown: str) -> str:
    """A value without what the server says of its type."""
    value = _value(shown)
    return value[1] if value else shown
