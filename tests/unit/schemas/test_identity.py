"""The rules that turn any text into a key: the same everywhere and for ever."""

from uuid import UUID

import pytest

from penstock.schemas.identity import (
    entity_uuid,
    entity_uuids,
    escape,
    event_uuid,
    key_texts,
    kv_key,
)

UPPER = "2F9471CB-57CC-562E-8F8B-9E6AAD260461"
AGENT = UPPER.lower()


def test_a_uuid_is_its_own_key_in_lower_case() -> None:
    assert entity_uuid("agent", UPPER) == AGENT
    assert entity_uuid("task", AGENT) == AGENT
    assert event_uuid("/s", UPPER) == event_uuid("/other", AGENT) == AGENT


@pytest.mark.parametrize(
    "text",
    ["a-1", "", "ü", AGENT[:-1], f"{{{AGENT}}}", AGENT.replace("-", ""), f"urn:uuid:{AGENT}"],
)
def test_any_other_text_has_a_uuid5_of_its_kind(text: str) -> None:
    found = entity_uuid("agent", text)
    assert UUID(found).version == 5
    assert found == str(UUID(found))
    assert found != entity_uuid("task", text)


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [AGENT, AGENT[::-1]],
        [AGENT, entity_uuid("task", "t"), AGENT],
        [AGENT, "a-1"],
        ["a-1", AGENT, UPPER],
        [AGENT, UPPER],
        [f"{AGENT}\n{AGENT}", AGENT],
        [AGENT, f"{AGENT}\n"],
        ["x" * len(AGENT), "ü"],
        ["a-1", "", "a-2"],
    ],
)
def test_many_texts_have_the_keys_of_each(texts: list[str]) -> None:
    keys = [entity_uuid("agent", text) for text in texts]
    assert list(entity_uuids("agent", texts)) == keys
    named = [None if key == text.lower() else text for key, text in zip(keys, texts, strict=True)]
    assert list(key_texts(texts)) == named


@pytest.mark.parametrize(
    ("made", "stored"),
    [
        (entity_uuid("agent", "a-1"), "85a6b502-0e62-5ac7-834c-ca8ab6d9298e"),
        (entity_uuid("task", "a-1"), "59efcae2-aeea-5169-b2e7-aa7aacf6f7eb"),
        (event_uuid("/agents/a-1", "e-1"), "f2b6404b-891b-5c53-b92a-a93259641174"),
    ],
)
def test_a_key_is_what_it_was_when_rows_were_stored(made: str, stored: str) -> None:
    assert made == stored


def test_an_event_is_named_by_its_source_and_its_id() -> None:
    assert event_uuid("/a", "1") == event_uuid("/a", "1")
    assert len({event_uuid("/a", "1"), event_uuid("/b", "1"), event_uuid("/a", "2")}) == 3


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("Task_1-b", "Task_1-b"),
        ("a b", "a=20b"),
        ("a.b", "a=2Eb"),
        ("*", "=2A"),
        (">", "=3E"),
        ("=2E", "=3D2E"),
        ("ü", "=C3=BC"),
    ],
)
def test_a_token_holds_nothing_that_a_bus_could_misread(text: str, token: str) -> None:
    assert escape(text) == token


@pytest.mark.parametrize(
    ("state_key", "key"),
    [
        (None, "_status"),
        ("cursor", "cursor"),
        ("_status", "=5Fstatus"),
        ("a.b", "a=2Eb"),
        ("=5F", "=3D5F"),
        ("", "="),
    ],
)
def test_every_state_key_has_a_kv_key_and_none_is_taken_for_the_status(
    state_key: str | None, key: str
) -> None:
    assert kv_key(AGENT, state_key) == f"{AGENT}.{key}"
