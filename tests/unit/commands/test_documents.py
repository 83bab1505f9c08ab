"""Events are found in a file however it holds them, and what is broken takes no other with it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from penstock.worker.commands import documents
from penstock.worker.commands.documents import Document, Documents, Piece

Write = Callable[[list[Any]], str]


def event(number: int, **changed: Any) -> dict[str, Any]:
    """One whose texts look like the ends of events."""
    known = {"specversion": "1.0", "id": f"e-{number}", "source": "/t", "type": "tasks.updated"}
    data = {"status": 'a"}],{', "list": [{"a": 1}, [2, {"b": "\\"}]]}
    time = "2026-03-01T00:00:00Z"
    return {**known, "time": time, "subject": '{"[\\', "data": data, **changed}


def found(text: str, *, at_most: int = 10**9) -> list[Document]:
    """What a file with ``text`` holds, of which long lines come in parts."""
    reading = Documents()
    seen: list[Document] = []
    for number, line in enumerate(text.encode().split(b"\n"), 1):
        rest, begins = line, True
        while len(rest) > at_most:
            slashes = len(rest[:at_most]) - len(rest[:at_most].rstrip(b"\\"))
            cut = at_most - slashes % 2
            seen += reading.take(Piece(number, rest[:cut], begins=begins, ends=False))
            rest, begins = rest[cut:], False
        seen += reading.take(Piece(number, rest, begins=begins))
    return [*seen, *reading.end()]


def told(text: str) -> list[str]:
    """The ids of events and the places of what is none, in their order."""
    return [one.place if one.error else json.loads(one.payload)["id"] for one in found(text)]


@pytest.mark.parametrize(
    "write",
    [
        lambda events: "\n".join(map(json.dumps, events)),
        lambda events: "\r\n\r\n".join(map(json.dumps, events)) + "\r\n",
        lambda events: "".join(map(json.dumps, events)),
        lambda events: "\x1e" + "\n\x1e".join(map(json.dumps, events)),
        lambda events: "\ufeff" + json.dumps(events),
        lambda events: json.dumps(events[:2]) + "\n" + json.dumps(events[2:]),
        lambda events: "[\n" + ",\n".join(map(json.dumps, events)) + "\n]\n",
        lambda events: json.dumps(events, indent=2),
        lambda events: json.dumps(events, indent=0),
        lambda events: "\n".join(json.dumps(one, indent=4) for one in events),
        lambda events: "\n".join(json.dumps(one, indent=0) for one in events),
        lambda events: ",\n".join(json.dumps(one, indent="\t") for one in events),
    ],
)
def test_every_form_in_any_pieces(write: Write) -> None:
    events = [event(n) for n in range(4)]
    for at_most in (3, 7, 100, 10**9):
        seen = found(write(events), at_most=at_most)
        assert [one.error for one in seen] == [""] * 4
        assert [json.loads(one.payload) for one in seen] == events
        assert {one.subject for one in seen} == {"tasks.=7B=22=5B=5C.updated"}


def test_a_line_that_is_cut_off_anywhere_takes_no_other_with_it() -> None:
    lines = [json.dumps(event(n)) for n in range(3)]
    for cut in range(1, len(lines[1])):
        broken = "\n".join([lines[0], lines[1][:cut], lines[2]])
        assert told(broken) == ["e-0", "line 2", "e-2"]
        assert told(f"[\n{broken}\n]") == ["e-0", "line 3, event 2", "e-2"]


def test_a_pretty_printed_event_with_one_broken_line_takes_no_other_with_it() -> None:
    text = [json.dumps(event(n), indent=2).split("\n") for n in range(3)]
    for number in range(1, len(text[1]) - 1):
        for broken in ("", '"x', "x", "{", "}", text[1][number][:9]):
            changed = [*text[1][:number], broken, *text[1][number + 1 :]]
            seen = told("\n".join([*text[0], *changed, *text[2]]))
            assert (seen[0], seen[-1]) == ("e-0", "e-2")


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("", []),
        ("[]", []),
        ("hello\n\n7", ["line 1", "line 3"]),
        ("[{}, 7, null]\n[[]]", [*(f"line 1, event {n}" for n in (1, 2, 3)), "line 2, event 1"]),
        ("[{", ["line 1, event 1", "line 1"]),
        ("]\n\\", ["line 1", "line 2"]),
        ('{"a": "', ["line 1"]),
    ],
)
def test_what_is_no_event_is_named_by_its_place(text: str, places: list[str]) -> None:
    assert told(text) == places
    assert "e-1" in told(text + "\n" + json.dumps(event(1)))


def test_an_event_without_end_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LARGEST", 1000)
    seen = found('[{"a": "' + "x" * 5000 + "\n" + json.dumps(event(1)), at_most=100)
    assert [one.place for one in seen] == ["line 1, event 1", "line 2, event 2", "line 1"]
    assert seen[0].error == "longer than 1000 bytes"
