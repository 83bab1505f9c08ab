"""PostgreSQL and the Publisher make the same key of any text: one writes it, the other reads it."""

import re

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.schemas.identity import kv_key, kv_token

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
ODD = ["", "__", "_status", "a_", "a.b", "=5F", "a b", "😀"]
ODD += [chr(code) for code in range(1, 256)] + [f"a{chr(code)}é" for code in range(1, 256)]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(drawn=st.lists(texts, max_size=50))
async def test_a_text_is_the_same_token_everywhere(database: str, drawn: list[str]) -> None:
    connection = await asyncpg.connect(database)
    given_texts = [*ODD, *drawn]
    rows = await connection.fetch(
        "SELECT bus.kv_token(t), bus.kv_escaped(t) FROM unnest($1::text[]) AS t", given_texts
    )
    await connection.close()
    for text, (token, escaped) in zip(given_texts, rows, strict=True):
        assert token == escaped == kv_token(text)
        assert re.fullmatch(r"[A-Za-z0-9_=-]+", token)


async def test_the_views_make_the_keys_that_an_agent_asks_for(database: str) -> None:
    agent = "00000000-0000-0000-0000-000000000001"
    connection = await asyncpg.connect(database)
    await connection.execute("INSERT INTO agents.agent (agent_id) VALUES ($1)", agent)
    await connection.execute(
        "INSERT INTO agents.state (agent_id, state_key) SELECT $1, t FROM unnest($2::text[]) AS t",
        agent,
        ODD,
    )
    rows = await connection.fetch("SELECT bucket, key FROM agents.kv")
    await connection.close()
    expected = {kv_key(agent, text) for text in [*ODD, None]}
    assert {row["key"] for row in rows} == expected
    assert {row["bucket"] for row in rows} == {"AGENT_STATE"}
