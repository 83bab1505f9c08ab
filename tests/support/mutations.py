"""Valid events of every type with one thing changed: odd, wrong or hostile. All seeded."""

import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event_type import EventType
from penstock.schemas.identity import escape
from tests.support.generated import EventMaker

NUMBERS = (
    b"0", b"-0", b"-0.0", b"1e5", b"1E+5", b"1.5e-7", b"1e99", b"1e308", b"-1e308", b"1e309",
    b"1e400", b"1e999", b"1e1000", b"1e131071", b"1e131072", b"1e0005", b"1e99999999999999999999",
    b"0e999999", b"1e-400", b"1e-999", b"1e-1000", b"1e-20000", b"9" * 18, b"9" * 19, b"9" * 20,
    b"9" * 309, b"9" * 1000, b"9" * 1001, b"9" * 5000, b"-" + b"9" * 5000, b"0." + b"3" * 1000,
    b"0." + b"3" * 1001, b"9" * 900 + b"e900", b"9223372036854775807", b"9223372036854775808",
    b"18446744073709551615", b"18446744073709551616", b"1.7976931348623157e308", b"5e-324",
)  # fmt: skip
TIMES = (
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00", "0001-01-01T00:00:00+05:00",
    "0001-01-01T00:00:00.000001Z", "9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-05:00", "9999-12-31T23:59:59.99999999999Z",
    "2016-12-31T23:59:60Z", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "1970-01-01T00:00:00Z",
    "2026-01-01T00:00:00.1234567Z", "2026-01-01T00:00:00", "2026-01-01", "", "yesterday",
    "2026-01-01t00:00:00z", "2026-01-01 00:00:00Z", "2026-01-01T24:00:00Z", "-0001-01-01T00:00:00Z",
)  # fmt: skip
TEXTS = (
    b'"a\\u0000b"', b'"\\\\u0000"', b'"\\ud800"', b'"\\ud800 x"', b'"\\udc00"', b'"\\ud83d\\ude00"',
    b'"\\u0041"', b'"\xf0\x9f\x98\x80"', b'"\xff"', b'"%41%2e"', b'"a\\"1e999999,\\""', b'":1e400"',
    b'"\\u0001\\u001f"', b'""', b'"1e131071"', b'"\x7f"', b'"\xe2\x80\xa8"', b'"\xc0\x80"',
    b'"\\x"',
)  # fmt: skip
DOCUMENTS = (
    b"null", b"true", b"[]", b"{}", b"[[]]", b'{"":{}}', b'{"a\\u0000":1}', b'{"a":1,"a":2}',
    b"[" * 300 + b"]" * 300, b"[" * 3000 + b"]" * 3000, b'{"a":' * 200 + b"1" + b"}" * 200,
    b"[1e999]", b"[1e131071,1e131071]", b'{"deep":[{"n":1e131071}]}', b"[1e308,1e308,1e308]",
    b"[1,]", b"{", b"[1 2]", b"nul", b"01", b"1.", b".5", b"+1", b"NaN", b"[1e5 ]", b"[1e1000\n]",
    b"[ 1e1000 ]", b'{"e":"1e1000,"}', b"[" + b"{}," * 2000 + b"{}]", b"[" + b"0.5," * 2000 + b"1]",
)  # fmt: skip
WRONG: tuple[Any, ...] = (
    None,
    True,
    7,
    -1,
    1.5,
    "",
    "x",
    "x" * 256,
    [],
    {},
    "a\0b",
    "%41",
    "=2E",
    "ü",
    "\U0001f600",
)
SEQUENCES = (None, 0, 1, -1, "12", "007", "", "x", "1.0", 2**63 - 1, 2**63, 10**19, "9" * 30, True)


class Mutant(NamedTuple):
    """An event with one change: its bus subject, attributes, the JSON text of its data."""

    change: str
    subject: str
    attributes: Mapping[str, Any]
    data: bytes


def mutants(catalogue: Catalogue, count: int, seed: int) -> Iterator[Mutant]:
    """``count`` of them, of all types in turn."""
    rng = random.Random(seed)
    maker = EventMaker(rng, ("a-1", "a b", "ü.*", "2f9471cb-57cc-562e-8f8b-9e6aad260461"), 600)
    kinds = list(catalogue.types.values())
    for number in range(count):
        kind = kinds[number % len(kinds)]
        event = msgspec.json.decode(maker.message(kind, number).body)
        data = event.pop("data")
        yield _mutant(rng, kind, event, data)


def _mutant(
    rng: random.Random, kind: EventType, attributes: dict[str, Any], data: dict[str, Any]
) -> Mutant:
    change = rng.choice(("nothing", "attribute", "time", "sequence", "field", "field", "text"))
    written: bytes | None = None
    if change == "attribute":
        names = ("id", "source", "type", "subject", "specversion", "actor", "project", "shoesize")
        name = rng.choice(names)
        if rng.random() < 0.2:
            attributes.pop(name, None)
        else:
            attributes[name] = rng.choice(WRONG)
    elif change == "time":
        attributes["time"] = rng.choice((None, 7, *TIMES))
    elif change == "sequence":
        attributes["sequence"] = rng.choice(SEQUENCES)
    elif change == "field":
        _change_field(rng, kind, data)
    elif change == "text":
        written = _torn(rng, msgspec.json.encode(data))
    entity = attributes.get("subject")
    token = escape(entity) if isinstance(entity, str) else "a-1"
    subject = f"{kind.prefix}{token or 'x'}{kind.suffix}"
    if rng.random() < 0.02:
        change, subject = "subject", subject + "x"
    return Mutant(change, subject, attributes, written or msgspec.json.encode(data))


def _change_field(rng: random.Random, kind: EventType, data: dict[str, Any]) -> None:
    names = [*(field for field in sorted(kind.fields) if field != kind.spec.key), "note"]
    times = [name for name in names if name in kind.moments]
    if times and rng.random() < 0.3:
        data[rng.choice(times)] = rng.choice((None, *TIMES))
        return
    name = rng.choice(names)
    if rng.random() < 0.1:
        data.pop(name, None)
    else:
        data[name] = Raw(rng.choice(rng.choice((NUMBERS, TEXTS, DOCUMENTS))))


def _torn(rng: random.Random, text: bytes) -> bytes:
    place = rng.randrange(len(text))
    odd = rng.choice((b"", b"\0", b"\xff", b'"', b",", b"\n", b"\x0b", b"}", b"1e9999", b"\\u0000"))
    cut = rng.choice((place, min(len(text), place + 1), len(text)))
    return text[:place] + odd + text[cut:] or b"{}"
