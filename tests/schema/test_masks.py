"""What is hidden before it is shown, whatever somebody put there."""

import json
from typing import Any

import asyncpg
import pytest

from tests.support.roles import READER, logged_in

KEY = "correct horse"


async def test_of_an_address_and_a_number_little_is_left(connection: asyncpg.Connection) -> None:
    addresses = {
        "ann@example.org": "a***@example.org",
        "a@b": "a***@b",
        "änn@münchen.example": "ä***@münchen.example",
        "李雷@例子.中国": "李***@例子.中国",
        "": "***",
        "ann": "***",
        "@example.org": "***",
        "ann@": "***",
        "ann@home@example.org": "***",
        "ann smith@example.org": "***",
        "ann@example.org\nbob@example.org": "***",
        None: None,
    }
    numbers = {
        "+49 170 1234567": "***67",
        "(030) 901820-99": "***99",
        "123456": "***",
        "": "***",
        "+": "***",
        "call me": "***",
        "0170 1234567 ext. 9": "***",
        "٠١٢٣٤٥٦٧": "***",
        None: None,
    }
    for function, cases in (("mask_email", addresses), ("mask_phone", numbers)):
        query = f"SELECT v, audit.{function}(v) AS shown FROM unnest($1::text[]) AS v"
        found = await connection.fetch(query, list(cases))
        assert {row["v"]: row["shown"] for row in found} == cases


DOCUMENTS: list[tuple[Any, Any]] = [
    (None, None),
    ("text", "text"),
    ([], []),
    ({}, {}),
    ({"secret": None, "tokens": 7, "name": "x"}, {"secret": None, "tokens": "***", "name": "x"}),
    ({"llm": {"apiKey": KEY, "model": "m"}}, {"llm": {"apiKey": "***", "model": "m"}}),
    ([1, {"Proxy-Password": [KEY]}, {"pwd": 2}], [1, {"Proxy-Password": "***"}, {"pwd": "***"}]),
    ([[{"credentials": {"user": KEY}}], 1.50, True], [[{"credentials": "***"}], 1.50, True]),
    ({"ключ": "не key", "käse_token_ü": KEY}, {"ключ": "не key", "käse_token_ü": "***"}),
    (
        {"env": [{"name": "API_KEY", "value": KEY}, {"name": "PORT", "value": "80"}]},
        {"env": [{"name": "API_KEY", "value": "***"}, {"name": "PORT", "value": "80"}]},
    ),
    ({"name": {"token": KEY}, "value": 1}, {"name": {"token": "***"}, "value": "***"}),
]


async def test_secrets_of_a_document_are_hidden(connection: asyncpg.Connection) -> None:
    query = "SELECT audit.mask_json($1::jsonb)::text"
    for document, shown in DOCUMENTS:
        assert json.loads(await connection.fetchval(query, json.dumps(document))) == shown
    assert await connection.fetchval(query, None) is None
    for begin, end in (("[", "]"), ('{"a": ', "}")):  # too deep to look through
        deep = begin * 3000 + f'"{KEY}"' + end * 3000
        found = await connection.fetchval(query, deep)
        assert KEY not in found
        assert found.count(begin) == 64


async def test_agents_are_shown_without_their_secrets_to_who_may_see_agents(
    connection: asyncpg.Connection, database: str
) -> None:
    await connection.execute(
        "INSERT INTO agents.agent (agent_id, name, configuration, is_stub) VALUES"
        ' (gen_random_uuid(), \'ann\', \'{"api_key": "correct horse", "model": "m"}\', false),'
        " (gen_random_uuid(), NULL, NULL, true), (gen_random_uuid(), 'bare', NULL, false)"
    )
    reader = await asyncpg.connect(logged_in(database, READER))
    query = "SELECT name, status, configuration::text FROM agents.v_masked ORDER BY name"
    assert [tuple(row) for row in await reader.fetch(query)] == [
        ("ann", "unknown", '{"model": "m", "api_key": "***"}'),
        ("bare", "unknown", None),
    ]
    await connection.execute(f"REVOKE SELECT ON agents.agent FROM {READER}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.fetch(query)
    await reader.close()
