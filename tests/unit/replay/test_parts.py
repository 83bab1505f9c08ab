"""The pure parts of a replay: sets of offsets, filters by subject, what histories give back."""

import random
from itertools import pairwise
from typing import Any

import click
import pytest

from penstock.schemas import AgentStateSet
from penstock.schemas.catalogue import Catalogue
from penstock.schemas.identity import entity_uuid, escape
from penstock.schemas.recall import Loss, losses
from penstock.worker.errors import SettingsError
from penstock.worker.flags import moment_as_typed
from penstock.worker.replay.asked import Asked
from penstock.worker.replay.choice import Choice, unescaped
from penstock.worker.replay.offsets import OffsetSet
from penstock.worker.settings.moments import moment

CATALOGUE = Catalogue.load()


def test_a_set_of_offsets_is_one_whatever_the_order() -> None:
    rng = random.Random(1)
    for _ in range(200):
        found, expected = OffsetSet([(3, 5), (8, 9)]), {3, 4, 8}
        for offset in rng.choices(range(14), k=rng.randrange(20)):
            found.add(offset)
            expected.add(offset)
        assert [n for n in range(-1, 16) if n in found] == sorted(expected)
        assert all(after < first for (_, after), (first, _) in pairwise(found.ranges))
    whole = OffsetSet()
    for offset in range(1000):
        whole.add(offset)
    assert whole.ranges == [(0, 1000)]


@pytest.mark.parametrize(
    ("options", "wanted", "others"),
    [
        ({}, ["agents.a-1.heartbeat", "anything"], []),
        ({"subject": "agents.*.heartbeat"}, ["agents.a-1.heartbeat"], ["agents.a-1.updated", ""]),
        ({"subject": "agents.>"}, ["agents.a.b.c"], ["agents", "tasks.t.created"]),
        ({"type": "agents.updated"}, ["agents.a=2Eb.updated"], ["agents.a-1.heartbeat"]),
        ({"subject": "agents.a-1.>", "type": "agents.updated"}, ["agents.a-1.updated"],
         ["agents.a-2.updated", "agents.a-1.heartbeat"]),
        ({"agent": "ein Agent"}, [f"agents.{escape('ein Agent')}.updated",
                                  f"agents.{entity_uuid('agent', 'ein Agent')}.updated"],
         ["agents.a-1.updated", f"tasks.{escape('ein Agent')}.created", "agents.x.unheard_of"]),
        ({"agent": entity_uuid("agent", "ein Agent").upper()},
         [f"agents.{escape('ein Agent')}.updated"], ["agents.a-1.updated"]),
    ],
)  # fmt: skip
def test_what_is_wanted_is_told_by_subjects(
    options: dict[str, Any], wanted: list[str], others: list[str]
) -> None:
    choice = Choice(Asked(source="nats", stream="S", **options), CATALOGUE)
    assert [subject for subject in (*wanted, *others) if choice(subject)] == wanted


@pytest.mark.parametrize("subject", ["a..b", "a.>.b", "", "."])
def test_a_pattern_that_is_none_is_refused(subject: str) -> None:
    with pytest.raises(SettingsError, match="tokens between dots"):
        Choice(Asked(source="nats", stream="S", subject=subject), CATALOGUE)


@pytest.mark.parametrize(
    ("typed", "known_as"),
    [
        ("25h", "25h"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00"),
        ("2026-01-31T13:00:00+01:00", "2026-01-31T12:00:00+00:00"),
    ],
)
def test_the_same_time_is_the_same_question(typed: str, known_as: str) -> None:
    option = click.Option(["--since"])
    since = moment_as_typed(click.Context(click.Command("replay")), option, typed)
    assert since == known_as
    asked = Asked(source="nats", stream="S", since=since)
    assert asked.moves == (typed == "25h")
    assert asked.span(()).since == moment(typed) or asked.moves


@pytest.mark.parametrize("text", ["a-1", "=2E", "ü ö", "..", "*>", "=", "a=b", "\n"])
def test_a_token_is_the_text_again(text: str) -> None:
    assert unescaped(escape(text)) == text


def test_what_a_history_cannot_give_back_follows_from_the_declarations() -> None:
    found = {name: list(losses(kind.spec)) for name, kind in CATALOGUE.types.items()}
    without = {name for name, kind in CATALOGUE.types.items() if kind.history is None}
    whole = {name for name, each in found.items() if any(loss.whole for loss in each)}
    assert whole == without
    named = {name for name, each in found.items() if each} - without
    assert named == {
        "agents.heartbeat",
        "agents.state_set",
        "agents.checkpointed",
        "knowledge.embedded",
        "tests.coverage_reported",
        "threads.checkpointed",
    }
    assert [loss.some for loss in found[AgentStateSet.spec.name]] == [True]
    paid = list(losses(Catalogue.load(["shop_events"]).types["orders.paid"].spec))
    assert Loss("orders.paid", "the sequence, which decides what is newer") in paid
    assert not any(loss.whole for loss in paid)
