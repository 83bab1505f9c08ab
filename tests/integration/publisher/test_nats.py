"""What an agent's author sees of the Publisher, against a real server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, StreamConfig

from penstock.schemas.agents import AgentHeartbeat, AgentStateSet
from penstock.schemas.event import Envelope, EventData
from penstock.schemas.identity import entity_uuid, event_uuid, kv_key
from penstock.schemas.messages import MessageSent
from penstock.schemas.tasks import TaskDeleted, TaskUpdated
from penstock.schemas.vocabulary import MessageKind, RecipientKind, TaskStatus
from penstock.worker.embedded import EmbeddedNats
from penstock.worker.errors import SourceUnavailable, StateStoreUnavailable
from penstock.worker.nats.kv.store import JetStreamKv
from penstock.worker.nats.topology import ensure_bucket
from penstock.worker.pipeline.ports import KvRow
from penstock.worker.publisher import (
    Confirmation,
    EventInvalid,
    Publisher,
    PublishFailed,
    PublishRefused,
    StateMissing,
    uuid7,
)
from tests.support.connecting import connected
from tests.support.waiting import until

SOURCE = "/agents/a-7"
CROWD = 30
"""That many messages at once are published as an atomic batch, a few are not."""

alone_and_in_a_crowd = pytest.mark.parametrize("others", [0, CROWD])


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    async with connected(nats_url) as found:
        yield found


async def add_stream(client: Client, *subjects: str, **options: Any) -> None:
    name = subjects[0].partition(".")[0].upper()
    config = StreamConfig(name=name, subjects=list(subjects), **{"allow_atomic": True, **options})
    await client.jetstream().add_stream(config)


async def stored(client: Client, stream: str = "TASKS") -> list[Msg]:
    js = client.jetstream()
    count = (await js.stream_info(stream)).state.messages
    options = ConsumerConfig(ack_policy=AckPolicy.NONE)
    reader = await js.pull_subscribe("", stream=stream, config=options)
    found: list[Msg] = []
    while len(found) < count:
        found += await reader.fetch(min(1000, count - len(found)), timeout=5)
    await reader.unsubscribe()
    return found


def updated(number: int, **fields: Any) -> TaskUpdated:
    return TaskUpdated(task_id=f"t-{number}", status=TaskStatus.RUNNING, **fields)


async def test_an_event_arrives_as_a_cloudevent(client: Client, nats_url: str) -> None:
    await add_stream(client, "tasks.>")
    time = datetime(2026, 3, 1, tzinfo=UTC)
    async with Publisher(nats_url, source=SOURCE, actor="me") as bus:
        confirmation = await bus.publish(
            TaskUpdated(task_id="t 1", status=TaskStatus.RUNNING, result={"a": [1]}),
            time=time,
            sequence=3,
            correlationid="c-1",
        )
    assert confirmation == Confirmation("TASKS", 1)
    (message,) = await stored(client)
    event = msgspec.json.decode(message.data, type=Envelope)
    assert message.subject == "tasks.t=201.updated"
    assert (event.type, event.subject, event.source) == ("tasks.updated", "t 1", SOURCE)
    assert (event.time, event.sequence, event.actor) == (time, 3, "me")
    assert event.correlationid == "c-1"
    assert UUID(event.id).version == 7
    assert (message.headers or {})["Nats-Msg-Id"] == event.id
    data = msgspec.json.decode(bytes(event.data or b""))
    assert data["status"] == "running"
    assert data["result"] == {"a": [1]}
    assert "task_id" not in data


async def test_the_same_id_is_confirmed_as_a_duplicate(client: Client, nats_url: str) -> None:
    await add_stream(client, "tasks.>")
    async with Publisher(nats_url, source=SOURCE) as bus:
        first = await bus.publish(updated(1), id="my-1")
        again = await bus.publish(updated(1), id="my-1")
        other = await bus.publish(updated(1), id="my-1", source="/agents/another")
    assert again == Confirmation("TASKS", first.sequence, duplicate=True)
    assert not other.duplicate
    assert len(await stored(client)) == 2


INVALID: dict[str, tuple[EventData, dict[str, Any], str]] = {
    "wrong type": (updated(1, priority="high"), {}, r"tasks.updated.*\$\.priority"),
    "unknown word": (TaskUpdated(task_id="t", status="gone"), {}, r"\$\.status"),  # type: ignore[arg-type]
    "out of range": (updated(1, priority=10), {}, r"\$\.priority"),
    "empty key": (TaskDeleted(task_id=""), {}, r"\$\.task_id"),
    "NUL": (updated(1, error="a\0b"), {}, r"\$\.data\.error.*NUL"),
    "NUL in JSON": (updated(1, result={"x": ["a\0b"]}), {}, r"\$\.data\.result\.x\[0\].*NUL"),
    "NaN": (updated(1, quality_score=float("nan")), {}, "quality_score.*nan"),
    "half a surrogate": (updated(1, error="\ud800"), {}, "surrogate"),
    "not JSON": (updated(1, result={"x": object()}), {}, "object"),
    "no sequence": (AgentStateSet(agent_id="a", state_key="k", value=1), {}, "sequence"),
    "negative sequence": (updated(1), {"sequence": -1}, "sequence"),
    "naive time": (updated(1), {"time": datetime(2026, 1, 1)}, "offset"),  # noqa: DTZ001
    "empty id": (updated(1), {"id": ""}, "id must be"),
    "long actor": (updated(1), {"actor": "a" * 256}, "actor"),
}


@pytest.mark.parametrize("case", INVALID)
async def test_an_invalid_event_is_refused_before_it_travels(
    client: Client, nats_url: str, case: str
) -> None:
    await add_stream(client, "tasks.>")
    event, attributes, text = INVALID[case]
    async with Publisher(nats_url, source=SOURCE) as bus:
        with pytest.raises(EventInvalid, match=text):
            await bus.publish(event, **attributes)
    assert await stored(client) == []


async def test_text_that_only_looks_odd_is_published(client: Client, nats_url: str) -> None:
    await add_stream(client, "tasks.>")
    async with Publisher(nats_url, source=SOURCE) as bus:
        await bus.publish(updated(1, error="a \\u0000 in source text", result=None))
    assert len(await stored(client)) == 1


@pytest.mark.parametrize("atomic", [True, False])
async def test_many_events_are_confirmed_each_with_its_own_place(
    client: Client, nats_url: str, *, atomic: bool
) -> None:
    await add_stream(client, "tasks.>", allow_atomic=atomic)
    async with Publisher(nats_url, source=SOURCE) as bus:
        futures = [await bus.publish_soon(updated(n), id=uuid7()) for n in range(2500)]
        confirmations = await asyncio.gather(*futures)
    messages = await stored(client)
    assert len(messages) == 2500
    for number, confirmation in enumerate(confirmations):
        message = messages[confirmation.sequence - 1]
        assert message.subject == f"tasks.t-{number}.updated"
    in_batches = sum("Nats-Batch-Id" in (message.headers or {}) for message in messages)
    assert in_batches > 2000 if atomic else in_batches == 0


@pytest.mark.parametrize("count", [10, CROWD])
async def test_duplicates_do_not_keep_the_rest_of_their_batch_out(
    client: Client, nats_url: str, count: int
) -> None:
    await add_stream(client, "tasks.>")
    async with Publisher(nats_url, source=SOURCE) as bus:
        await bus.publish(updated(5), id="id-5")
        futures = [await bus.publish_soon(updated(n), id=f"id-{n}") for n in range(count)]
        futures += [await bus.publish_soon(updated(7), id="id-7")]
        confirmations = await asyncio.gather(*futures)
    assert [n for n, found in enumerate(confirmations) if found.duplicate] == [5, count]
    assert len(await stored(client)) == count


async def test_leaving_the_context_waits_for_all(client: Client, nats_url: str) -> None:
    await add_stream(client, "tasks.>")
    async with Publisher(nats_url, source=SOURCE) as bus:
        futures = [await bus.publish_soon(updated(n)) for n in range(1200)]
    assert all(future.done() for future in futures)
    assert len(await stored(client)) == 1200


@alone_and_in_a_crowd
async def test_a_subject_without_a_stream_is_refused_alone(
    client: Client, nats_url: str, others: int
) -> None:
    await add_stream(client, "tasks.*.updated")
    async with Publisher(nats_url, source=SOURCE) as bus:
        crowd = await publish_through(bus, others)
        good = await bus.publish_soon(updated(1))
        bad = await bus.publish_soon(TaskDeleted(task_id="t-2"))
        also_good = await bus.publish_soon(updated(3))
        with pytest.raises(PublishRefused, match=r"tasks\.t-2\.deleted.*penstock provision"):
            await bad
        assert {found.stream for found in await asyncio.gather(*crowd, good, also_good)} == {
            "TASKS"
        }


@alone_and_in_a_crowd
async def test_a_message_that_is_too_large_is_refused_alone(
    client: Client, nats_url: str, others: int
) -> None:
    await add_stream(client, "tasks.>", max_msg_size=2000)
    async with Publisher(nats_url, source=SOURCE) as bus:
        crowd = await publish_through(bus, others)
        futures = [
            await bus.publish_soon(updated(1)),
            await bus.publish_soon(updated(2, error="x" * 3000)),
            await bus.publish_soon(updated(3, error="x" * 1_000_000, result="y" * 9_000_000)),
            await bus.publish_soon(updated(4)),
        ]
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert len({found.sequence for found in await asyncio.gather(*crowd)}) == others
    kinds = [type(result) for result in results]
    assert kinds == [Confirmation, PublishRefused, PublishRefused, Confirmation]
    assert "tasks.t-2.updated" in str(results[1])
    assert "the server takes" in str(results[2])


@alone_and_in_a_crowd
async def test_a_full_stream_refuses_and_says_so(
    client: Client, nats_url: str, others: int
) -> None:
    fit = 3 + others
    await add_stream(client, "tasks.>", max_msgs=fit, discard=DiscardPolicy.NEW)
    async with Publisher(nats_url, source=SOURCE) as bus:
        futures = [await bus.publish_soon(updated(n)) for n in range(fit + 2)]
        results = await asyncio.gather(*futures, return_exceptions=True)
    assert [isinstance(result, PublishRefused) for result in results] == [False] * fit + [True] * 2
    assert "make room" in str(results[-1])


PERMISSIONS = """
authorization { users: [
  {user: admin, password: admin}
  {user: agent, password: agent, permissions: {
    publish: ["tasks.mine.*"], subscribe: ["_INBOX.>"] } }
] }
"""


@alone_and_in_a_crowd
async def test_a_publish_that_is_not_allowed_is_refused_alone(others: int) -> None:
    async with EmbeddedNats(extra_config=PERMISSIONS) as server:
        async with connected(server.url.replace("//", "//admin:admin@")) as admin:
            await add_stream(admin, "tasks.>")
        async with Publisher(server.url.replace("//", "//agent:agent@"), source=SOURCE) as bus:
            crowd = [await bus.publish_soon(TaskDeleted(task_id="mine")) for _ in range(others)]
            mine = await bus.publish_soon(TaskDeleted(task_id="mine"))
            theirs = await bus.publish_soon(TaskDeleted(task_id="Theirs"))
            with pytest.raises(PublishRefused, match=r"tasks\.Theirs\.deleted"):
                await theirs
            sequences = sorted(found.sequence for found in await asyncio.gather(*crowd, mine))
            assert sequences == [*range(1, others + 2)]


async def publish_through(bus: Publisher, count: int) -> list[asyncio.Future[Confirmation]]:
    return [await bus.publish_soon(updated(n), id=event_uuid("s", str(n))) for n in range(count)]


async def each_exactly_once(client: Client, count: int) -> bool:
    ids = [(message.headers or {})["Nats-Msg-Id"] for message in await stored(client)]
    return sorted(ids) == sorted(event_uuid("s", str(n)) for n in range(count))


@pytest.mark.parametrize("atomic", [True, False])
async def test_nothing_is_lost_or_doubled_when_the_server_is_killed(*, atomic: bool) -> None:
    async with EmbeddedNats() as server, connected(server.url) as client:
        await add_stream(client, "tasks.>", allow_atomic=atomic)
        async with Publisher(server.url, source=SOURCE) as bus:
            publishing = asyncio.create_task(publish_through(bus, 6000))
            for _ in range(3):
                await until_stored_more(client)
                server.kill()
                await server.restart()
            confirmations = await asyncio.gather(*await publishing)
        assert len(confirmations) == 6000
        assert await each_exactly_once(client, 6000)


async def until_stored_more(client: Client) -> None:
    """Until something new is there, or everything is."""
    js = client.jetstream(timeout=10)
    counts: list[int] = []

    async def more() -> bool:
        try:
            counts.append((await js.stream_info("TASKS")).state.messages)
        except TimeoutError:
            return False
        return counts[-1] == 6000 or counts[-1] > counts[0]

    await until(more)


async def test_nothing_is_lost_or_doubled_when_the_server_is_paused() -> None:
    """For longer than an attempt is waited for."""
    async with EmbeddedNats() as server, connected(server.url) as client:
        await add_stream(client, "tasks.>")
        async with Publisher(server.url, source=SOURCE) as bus:
            server.pause()
            futures = await publish_through(bus, 3000)
            done, _ = await asyncio.wait(futures, timeout=6.0)
            assert not done
            server.resume()
            await asyncio.gather(*futures)
        assert await each_exactly_once(client, 3000)


async def test_publishing_waits_for_room_while_the_server_is_away() -> None:
    async with EmbeddedNats() as server, connected(server.url) as client:
        await add_stream(client, "tasks.>")
        async with Publisher(server.url, source=SOURCE, max_pending=50) as bus:
            server.pause()
            for number in range(50):
                await bus.publish_soon(updated(number))
            waiting = asyncio.create_task(bus.publish(updated(50)))
            assert not (await asyncio.wait({waiting}, timeout=0.3))[0]
            server.resume()
            assert (await waiting).sequence == 51


async def test_bytes_are_bounded_too(client: Client, nats_url: str) -> None:
    await add_stream(client, "tasks.>")
    async with Publisher(nats_url, source=SOURCE, max_pending_bytes=20_000) as bus:
        futures = [await bus.publish_soon(updated(n, error="x" * 9000)) for n in range(20)]
        assert sum(not future.done() for future in futures) <= 2
        huge = await bus.publish(updated(21, error="x" * 100_000))
    assert huge.sequence == 21


async def test_it_gives_up_when_told_to() -> None:
    async with EmbeddedNats() as server, connected(server.url) as client:
        await add_stream(client, "tasks.>")
        async with Publisher(server.url, source=SOURCE, give_up=0.5) as bus:
            server.kill()
            with pytest.raises(PublishFailed, match=r"not confirmed in 0\.5 s"):
                await bus.publish(updated(1))


async def test_a_message_that_is_taken_back_is_not_sent() -> None:
    async with EmbeddedNats() as server, connected(server.url) as client:
        await add_stream(client, "tasks.>")
        async with Publisher(server.url, source=SOURCE) as bus:
            server.kill()
            taken_back = await bus.publish_soon(updated(1))
            kept = await bus.publish_soon(updated(2))
            taken_back.cancel()
            await server.restart()
            await kept
        subjects = [message.subject for message in await stored(client)]
    assert subjects == ["tasks.t-2.updated"]


async def test_a_connection_that_ends_for_good_fails_what_waits() -> None:
    """A server that breaks off over a line that is too long is not asked again by nats-py."""
    async with (
        EmbeddedNats(extra_config="max_control_line: 256") as server,
        Publisher(server.url, source=SOURCE) as bus,
    ):
        with pytest.raises(PublishFailed, match=r"closed for good.*[Cc]ontrol"):
            await bus.publish(TaskDeleted(task_id="t" * 250))
        with pytest.raises(PublishFailed, match="closed for good"):
            await bus.publish(updated(1))


async def test_a_server_that_is_not_there_fails_at_once() -> None:
    with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.1:1"):
        async with Publisher("nats://127.0.0.1:1", source=SOURCE):
            pass


async def test_other_domains_do_not_wait_for_one_without_a_stream(
    client: Client, nats_url: str
) -> None:
    await add_stream(client, "agents.>")
    async with Publisher(nats_url, source=SOURCE) as bus:
        stuck = await bus.publish_soon(updated(1))
        await bus.publish(AgentHeartbeat(agent_id="a-1"))
        message = MessageSent(
            to="a-1", message_id="m", to_kind=RecipientKind.AGENT, kind=MessageKind.EVENT, payload=1
        )
        other = await bus.publish_soon(message)
        assert not stuck.done()
        assert await asyncio.gather(stuck, other, return_exceptions=True)


def state_row(agent: str, key: str | None, value: Any, expires: datetime | None = None) -> KvRow:
    document = {"v": 3, "t": "2026-03-01T00:00:00Z", "val": value, "sum": "abc", "g": [3]}
    if expires is not None:
        document["exp"] = expires
    body = msgspec.json.encode(document)
    return KvRow(key=kv_key(entity_uuid("agent", agent), key), guard=b"[3]", value=body)


def kv_keys() -> Iterator[str]:
    yield from ("cursor", "_status", "a.b", "ä *>", "=5F", "x" * 200)


async def test_state_is_read_as_the_worker_writes_it(client: Client, nats_url: str) -> None:
    await ensure_bucket(client, "AGENT_STATE")
    store = JetStreamKv(client, "AGENT_STATE")
    past = datetime.now(UTC) - timedelta(seconds=1)
    rows = [state_row("a-7", key, {"is": key}) for key in kv_keys()]
    rows += [state_row("a-7", None, {"status": "busy"}), state_row("a-7", "old", 1, past)]
    await store.put(rows)
    async with Publisher(nats_url, source=SOURCE) as bus:
        for key in kv_keys():
            found = await bus.state("a-7", key)
            assert found.value == {"is": key}
        assert (found.version, found.checksum) == (3, "abc")
        assert found.updated == datetime(2026, 3, 1, tzinfo=UTC)
        assert (await bus.status("a-7")).value == {"status": "busy"}
        with pytest.raises(StateMissing, match=r"'none' of agent 'a-7'"):
            await bus.state("a-7", "none")
        with pytest.raises(StateMissing, match="expired"):
            await bus.state("a-7", "old")
        gone = KvRow(key=kv_key(entity_uuid("agent", "a-7"), "cursor"), guard=b"[4]", value=None)
        await store.put([gone])
        with pytest.raises(StateMissing, match="cursor"):
            await bus.state("a-7", "cursor")


async def test_state_without_a_bucket_says_what_is_missing(nats_url: str) -> None:
    async with Publisher(nats_url, source=SOURCE) as bus:
        with pytest.raises(StateStoreUnavailable, match="there is no bucket AGENT_STATE"):
            await bus.state("a-7", "cursor")


@pytest.mark.parametrize("atomic", [True, False])
async def test_a_server_that_comes_back_smaller_fails_the_large_event_alone(
    *, atomic: bool
) -> None:
    async with EmbeddedNats() as server, connected(server.url) as client:
        await add_stream(client, "tasks.>", allow_atomic=atomic)
        async with Publisher(server.url, source=SOURCE) as bus:
            await bus.publish(updated(0))
            server.kill()
            server.max_payload = 8_192
            large = updated(1, result={"text": "x" * 200_000})
            events = [updated(n) for n in range(CROWD)]
            events[10:10] = [large]
            waiting = [asyncio.create_task(bus.publish(event)) for event in events]
            await server.restart()
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert [n for n, o in enumerate(outcomes) if isinstance(o, Exception)] == [10]
            assert isinstance(outcomes[10], PublishRefused)
            assert "the server takes 8192" in str(outcomes[10])
            with pytest.raises(PublishRefused, match="the server takes 8192"):
                await bus.publish(large)
        assert len(await stored(client)) == CROWD + 1
