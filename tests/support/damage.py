"""What an operator hopes never to see: things changed behind the worker's back."""

import json
from collections.abc import Sequence

from nats.aio.client import Client

from penstock.schemas.identity import entity_uuid, kv_key
from tests.support.connecting import connection_to
from tests.support.traffic import STREAM

NOBODYS = "nobody.plan"
_UNRECORDED = (
    "UPDATE bus.position "
    "SET seqs = seqs - int8multirange(int8range($2::bigint, $3::bigint)) "
    "WHERE stream = $1 AND seqs @> $2::bigint"
)

TASKS_UNTIED = """
DO $$
DECLARE tie record;
BEGIN
    FOR tie IN SELECT conrelid::regclass AS relation, conname FROM pg_constraint
        WHERE confrelid = 'tasks.task'::regclass AND contype = 'f' AND conparentid = 0
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', tie.relation, tie.conname);
    END LOOP;
END $$"""
"""Takes away every reference to a task, which would keep tasks from being deleted."""


def key_of(agent: str, name: str | None = "plan") -> str:
    return kv_key(entity_uuid("agent", agent), name)


async def spoil_bucket(client: Client, agents: Sequence[str]) -> None:
    """A value changed under its version, one from the future, one gone, one of nobody."""
    kv = await client.jetstream().key_value("AGENT_STATE")
    entry = await kv.get(key_of(agents[0]))
    document = json.loads(entry.value or b"")
    await kv.put(key_of(agents[0]), json.dumps({**document, "val": "spoilt"}).encode())
    document["g"][0] += 1_000
    await kv.put(key_of(agents[1]), json.dumps(document).encode())
    await kv.delete(key_of(agents[2]))
    await kv.put(NOBODYS, b"1")


async def taken_out(database: str, nats: Client, offset: int, task: str = "t-1") -> tuple[int, str]:
    """Undo what was stored of the first message about ``task`` from ``offset`` on: as if somebody
    else had acknowledged it. Returns its offset and its event id.
    """
    js = nats.jetstream()
    while f"tasks.{task}." not in ((message := await js.get_msg(STREAM, offset)).subject or ""):
        offset += 1
    event_id: str = json.loads(message.data or b"")["id"]
    async with connection_to(database) as connection:
        await connection.execute("DELETE FROM events.log WHERE event_id = $1", event_id)
        await connection.execute(_UNRECORDED, STREAM, offset, offset + 1)
    return offset, event_id
