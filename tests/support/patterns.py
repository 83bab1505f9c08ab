"""Texts that a pattern of a field allows."""

import random
import re
import sys
from typing import Any

_MORE = 3
"""How many repetitions beyond the least are tried."""


def matching(pattern: str, rng: random.Random) -> str:
    """A text that matches, of plain patterns: literals, sets, groups, choices, repetitions."""
    parsed = sys.modules["re._parser"].parse(pattern)
    found = "".join(_part(rng, str(op), argument) for op, argument in parsed)
    assert re.search(pattern, found), f"{found!r} does not match {pattern!r}"
    return found


def _part(rng: random.Random, op: str, argument: Any) -> str:  # noqa: PLR0911  (a table of cases)
    match op:
        case "LITERAL":
            return chr(argument)
        case "AT":
            return ""
        case "IN":
            return _part(rng, *_named(rng.choice(argument)))
        case "RANGE":
            return chr(rng.randint(*argument))
        case "CATEGORY":
            return {"CATEGORY_DIGIT": "7", "CATEGORY_WORD": "w"}[str(argument)]
        case "SUBPATTERN":
            return "".join(_part(rng, *_named(part)) for part in argument[-1])
        case "BRANCH":
            return "".join(_part(rng, *_named(part)) for part in rng.choice(argument[1]))
        case "MAX_REPEAT":
            low, high, part = argument
            times = rng.randint(low, min(int(high), low + _MORE))
            return "".join(_part(rng, *_named(one)) for _ in range(times) for one in part)
    raise AssertionError(f"no text for {op}")


def _named(part: tuple[Any, Any]) -> tuple[str, Any]:
    return str(part[0]), part[1]
