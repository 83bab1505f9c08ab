"""Making streams, consumers and buckets on a real server, beside what is there already."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, StreamConfig
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from penstock.worker.difference import Difference
from penstock.worker.embedded import EmbeddedNats
from penstock.worker.errors import SourceUnavailable, TopologyError
from penstock.worker.nats.api import ApiRefused, call
from penstock.worker.nats.connection import connect
from penstock.worker.nats.options import NatsOptions
from penstock.worker.nats.rules import CONSUMER_RULES, STREAM_RULES, Rule
from penstock.worker.nats.topology import ConsumerPlan, StreamPlan, check, ensure_bucket, provision

CONSUMER = ConsumerPlan(durable="penstock", ack_wait=30.0, max_ack_pending=2000)
_STORE_FAILED = 10049

PLAN = StreamPlan(name="TASKS", subjects=("tasks.>", "workflows.>"))


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    client = await connect(NatsOptions(url=nats_url), name="topology")
    yield client
    await client.close()


async def stream_of(client: Client, name: str = "TASKS") -> dict[str, Any]:
    config: dict[str, Any] = (await call(client, f"STREAM.INFO.{name}"))["config"]
    return config


async def consumer_of(client: Client) -> dict[str, Any]:
    config: dict[str, Any] = (await call(client, "CONSUMER.INFO.TASKS.penstock"))["config"]
    return config


def about(found: list[Difference], text: str) -> Difference:
    [difference] = [difference for difference in found if text in difference.what]
    return difference


async def test_an_empty_server_gets_durable_streams_and_unlimited_redelivery(
    client: Client,
) -> None:
    found = await provision(client, [PLAN], CONSUMER)
    assert [str(difference) for difference in found] == [
        "stream TASKS: created",
        "consumer penstock of stream TASKS: created",
    ]
    stream = await stream_of(client)
    assert stream["storage"] == "file"
    assert stream["retention"] == "limits"
    assert stream["discard"] == "old"
    assert stream["allow_direct"]
    assert stream["allow_atomic"]
    assert "persist_mode" not in stream
    consumer = await consumer_of(client)
    assert consumer["max_deliver"] == -1
    assert consumer["ack_policy"] == "explicit"
    assert consumer["deliver_policy"] == "all"
    assert consumer["ack_wait"] == 30_000_000_000
    assert consumer["max_ack_pending"] == 2000


async def test_doing_it_again_finds_nothing(client: Client) -> None:
    plan = StreamPlan(name="TASKS", subjects=("tasks.>",), max_age=3600, max_bytes=1 << 20)
    await provision(client, [plan], CONSUMER)
    assert await provision(client, [plan], CONSUMER) == []
    assert await check(client, [plan], CONSUMER) == []
    assert (await stream_of(client))["discard"] == "new"


async def test_a_dry_run_changes_nothing(client: Client) -> None:
    found = await provision(client, [PLAN], CONSUMER, dry_run=True)
    found += await ensure_bucket(client, "AGENTS", dry_run=True)
    assert [difference.missing for difference in found] == [True, True, True]
    assert "penstock provision" in str(found[0])
    assert await client.jetstream().streams_info() == []


async def test_ten_workers_may_start_at_once(nats_url: str) -> None:
    clients = [await connect(NatsOptions(url=nats_url), name=f"w{n}") for n in range(10)]

    async def start(client: Client) -> list[Difference]:
        return [
            *await provision(client, [PLAN], CONSUMER),
            *await ensure_bucket(client, "AGENTS"),
        ]

    try:
        await asyncio.gather(*(start(client) for client in clients))
        assert await provision(clients[0], [PLAN], CONSUMER) == []
    finally:
        for client in clients:
            await client.close()


def _is_in_the_way(error: BaseException) -> bool:
    """The server may still be removing the files of the stream that was there before."""
    return isinstance(error, ApiRefused) and error.code == _STORE_FAILED


@retry(
    retry=retry_if_exception(_is_in_the_way),
    stop=stop_after_delay(5),
    wait=wait_fixed(0.1),
    reraise=True,
)
async def create(client: Client, config: dict[str, Any]) -> None:
    """A stream TASKS as a person may have made it."""
    await call(client, "STREAM.CREATE.TASKS", config)


async def test_what_can_be_changed_without_loss_is_changed(client: Client) -> None:
    await create(
        client,
        {
            "name": "TASKS",
            "subjects": ["tasks.>", "mine.>"],
            "storage": "file",
            "max_age": 3_600_000_000_000,
            "description": "made by hand",
        },
    )
    config = {
        "name": "penstock",
        "durable_name": "penstock",
        "ack_policy": "explicit",
        "max_deliver": 5,
        "ack_wait": 5_000_000_000,
        "description": "by hand",
    }
    request = {"stream_name": "TASKS", "config": config}
    await call(client, "CONSUMER.CREATE.TASKS.penstock", request)
    before = (await call(client, "STREAM.INFO.TASKS"))["created"]
    found = await provision(client, [PLAN], CONSUMER)
    assert all(difference.fixed for difference in found)
    assert str(about(found, "max_age")) == (
        "stream TASKS: max_age: found 3600 s, wanted unlimited; changed"
    )
    stream, consumer = await stream_of(client), await consumer_of(client)
    assert set(stream["subjects"]) == {"tasks.>", "mine.>", "workflows.>"}
    assert stream["max_age"] == 0
    assert stream["description"] == "made by hand"
    assert consumer["max_deliver"] == -1
    assert consumer["ack_wait"] == 30_000_000_000
    assert consumer["description"] == "by hand"
    assert (await call(client, "STREAM.INFO.TASKS"))["created"] == before
    assert await provision(client, [PLAN], CONSUMER) == []


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("storage", "memory", "lost with the server"),
        ("retention", "workqueue", "replay"),
        ("persist_mode", "async", "before they are on disk"),
        ("max_bytes", 1 << 30, "drops messages"),
        ("no_ack", True, "publishers cannot learn"),
    ],
)
async def test_what_cannot_is_reported_and_left_alone(
    client: Client,
    setting: str,
    value: Any,
    remedy: str,
) -> None:
    config = {"name": "TASKS", "subjects": ["tasks.>", "workflows.>"], "storage": "file"}
    await create(client, config | {setting: value})
    plan = StreamPlan(name="TASKS", subjects=PLAN.subjects, max_bytes=1 << 20)
    found = about(await provision(client, [plan], CONSUMER), f"TASKS: {setting}")
    assert remedy in str(found)
    assert not found.fixed
    assert (await stream_of(client))[setting] == value


LOSES: dict[str, tuple[Any, str]] = {
    "max_msgs": (10_000, "unlimited"),
    "max_msgs_per_subject": (1, "unlimited"),
    "max_msg_size": (1_000, "unlimited"),
    "max_age": (60_000_000_000, "unlimited"),
    "retention": ("interest", "drops what comes"),
    "discard": ("new", "nobody has read"),
    "subject_transform": ({"src": "tasks.>", "dest": "jobs.>"}, "tasks.> to jobs.>"),
    "republish": ({"src": "tasks.>", "dest": "again.>"}, "a second event"),
    "sources": ([{"name": "OTHER"}], "found OTHER"),
    "allow_rollup_hdrs": (True, "delete what nobody has read"),
    "allow_msg_ttl": (True, "expire before it is read"),
    "allow_msg_schedules": (True, "delivered later"),
    "subject_delete_marker_ttl": (3_600_000_000_000, "dead letters"),
    "allow_msg_counter": (True, "no events"),
}
"""Settings by which a stream can lose or reroute an event, and what is said of each."""


@pytest.mark.parametrize("setting", LOSES)
async def test_a_setting_that_can_lose_an_event_is_named(client: Client, setting: str) -> None:
    value, said = LOSES[setting]
    config = {"name": "TASKS", "subjects": list(PLAN.subjects), "storage": "file"}
    more = {"allow_msg_ttl": True} if setting == "subject_delete_marker_ttl" else {}
    await create(client, {**config, **more, setting: value})
    found = about(await provision(client, [PLAN], CONSUMER, dry_run=True), f"TASKS: {setting}")
    assert said in str(found)
    mended = about(await provision(client, [PLAN], CONSUMER), f"TASKS: {setting}")
    assert mended.fixed == found.safe, "what provision says it changes, it changes"
    assert (await stream_of(client)).get(setting) == (
        value if not found.safe else UNLIMITED[setting]
    )


UNLIMITED = {"max_msgs": -1, "max_msgs_per_subject": -1, "max_msg_size": -1, "max_age": 0}


async def test_what_the_server_cannot_change_is_not_promised(client: Client) -> None:
    await call(client, "STREAM.CREATE.OTHER", {"name": "OTHER", "subjects": ["others.>"]})
    await create(client, {"name": "TASKS", "mirror": {"name": "OTHER"}, "max_msgs": 5})
    found = await provision(client, [PLAN], CONSUMER)
    assert not any(d.safe or d.fixed for d in found if d.what.startswith("stream TASKS"))
    assert "takes no events" in str(about(found, "TASKS: mirror"))
    with pytest.raises(TopologyError, match="mirror: found OTHER"):
        await check(client, [PLAN], CONSUMER)


async def test_a_sealed_stream_is_named_and_nothing_promised(client: Client) -> None:
    config = {"name": "TASKS", "subjects": ["tasks.>"], "max_msgs": 5, "storage": "file"}
    await create(client, config)
    await call(client, "STREAM.UPDATE.TASKS", config | {"sealed": True, "discard": "new"})
    found = await provision(client, [PLAN], CONSUMER)
    assert "no more messages" in str(about(found, "TASKS: sealed"))
    assert not any(d.safe or d.fixed for d in found if d.what.startswith("stream TASKS"))


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("pause_until", "2100-01-01T00:00:00Z", "delivers nothing until then"),
        ("filter_subject", "tasks.one.>", "other events are skipped"),
        ("deliver_policy", "new", "older messages were skipped"),
        ("replay_policy", "original", "delivers slowly"),
        ("mem_storage", True, "forgets it when it restarts"),
        ("inactive_threshold", 3_600_000_000_000, "deletes an idle consumer"),
        ("max_batch", 5, "unlimited"),
        ("max_bytes", 1_000, "unlimited"),
        ("max_expires", 1_000_000_000, "unlimited"),
    ],
)
async def test_a_consumer_that_skips_or_stops_is_named(
    client: Client, setting: str, value: Any, said: str
) -> None:
    await create(client, {"name": "TASKS", "subjects": list(PLAN.subjects), "storage": "file"})
    named = {"name": "penstock", "durable_name": "penstock", "ack_policy": "explicit"}
    request = {"stream_name": "TASKS", "config": {**named, setting: value}}
    await call(client, "CONSUMER.CREATE.TASKS.penstock", request)
    found = about(await provision(client, [PLAN], CONSUMER, dry_run=True), f"TASKS: {setting}")
    assert said in str(found)
    mended = about(await provision(client, [PLAN], CONSUMER), f"TASKS: {setting}")
    assert mended.fixed == found.safe


HARMLESS = {
    "allow_batched",  # faster, with the same answers
    "backoff",  # redelivers at other times
    "compression",
    "consumer_limits",  # as the consumer's own settings show
    "deliver_group",  # only of those that push
    "description",
    "discard_new_per_subject",  # the publisher learns of it
    "duplicate_window",  # equal ids are one event
    "durable_name",
    "first_seq",
    "flow_control",
    "idle_heartbeat",
    "max_consumers",  # a consumer too many is refused
    "max_waiting",  # a request too many is refused, and made again
    "metadata",
    "mirror_direct",
    "name",
    "num_replicas",
    "opt_start_seq",  # with deliver_policy
    "opt_start_time",
    "placement",
    "rate_limit_bps",
    "sample_freq",
    "template_owner",
}


@pytest.mark.parametrize(
    ("known", "rules"), [(StreamConfig, STREAM_RULES), (ConsumerConfig, CONSUMER_RULES)]
)
def test_of_every_setting_it_is_decided_whether_it_matters(
    known: type[StreamConfig | ConsumerConfig], rules: Sequence[Rule]
) -> None:
    settings = {field.name for field in dataclasses.fields(known)}
    assert settings - {rule.setting for rule in rules} <= HARMLESS


async def test_a_shorter_age_is_left_to_a_person(client: Client) -> None:
    await provision(client, [StreamPlan(name="TASKS", subjects=("tasks.>",))], CONSUMER)
    shorter = StreamPlan(name="TASKS", subjects=("tasks.>",), max_age=60)
    found = about(await provision(client, [shorter], CONSUMER), "max_age")
    assert "drops messages" in found.remedy
    assert (await stream_of(client))["max_age"] == 0


async def test_a_consumer_that_cannot_work_is_fatal(client: Client) -> None:
    await provision(client, [PLAN], CONSUMER)
    await call(client, "CONSUMER.DELETE.TASKS.penstock")
    config = {"name": "penstock", "durable_name": "penstock", "ack_policy": "none"}
    request = {"stream_name": "TASKS", "config": config | {"filter_subject": "tasks.a.>"}}
    await call(client, "CONSUMER.CREATE.TASKS.penstock", request)
    found = await provision(client, [PLAN], CONSUMER, dry_run=True)
    assert about(found, "ack_policy").fatal
    assert "skipped" in about(found, "filter_subject").remedy
    with pytest.raises(TopologyError, match="ack_policy: found none, wanted explicit"):
        await check(client, [PLAN], CONSUMER)


async def test_checking_names_what_is_missing_and_the_command(client: Client) -> None:
    with pytest.raises(TopologyError, match=r"stream TASKS: missing.*penstock provision"):
        await check(client, [PLAN], CONSUMER)
    assert await client.jetstream().streams_info() == []


async def test_subjects_of_another_stream_are_an_error_that_says_so(client: Client) -> None:
    await call(client, "STREAM.CREATE.OTHER", {"name": "OTHER", "subjects": ["tasks.>"]})
    with pytest.raises(TopologyError, match="stream TASKS: subjects overlap"):
        await provision(client, [PLAN], CONSUMER)


async def test_a_bucket_is_what_other_clients_expect(client: Client) -> None:
    found = await ensure_bucket(client, "AGENTS")
    assert [str(difference) for difference in found] == ["stream KV_AGENTS: created"]
    bucket = await client.jetstream().key_value("AGENTS")
    revision = await bucket.put("a.status", b"{}")
    assert (await bucket.get("a.status")).revision == revision
    status = await bucket.status()
    assert status.history == 5
    stream = await stream_of(client, "KV_AGENTS")
    assert stream["allow_atomic"]
    assert stream["allow_direct"]
    assert stream["deny_delete"]
    assert await ensure_bucket(client, "AGENTS") == []


async def test_a_bucket_made_by_another_client_learns_atomic_batches(client: Client) -> None:
    await client.jetstream().create_key_value(bucket="AGENTS", history=1, direct=False)
    found = await ensure_bucket(client, "AGENTS")
    assert all(difference.fixed for difference in found)
    stream = await stream_of(client, "KV_AGENTS")
    assert stream["allow_atomic"]
    assert stream["allow_direct"]
    assert stream["max_msgs_per_subject"] == 5


async def test_a_bucket_may_persist_asynchronously_instead(client: Client) -> None:
    await ensure_bucket(client, "AGENTS", asynchronous=True)
    stream = await stream_of(client, "KV_AGENTS")
    assert stream["persist_mode"] == "async"
    assert await ensure_bucket(client, "AGENTS", asynchronous=True) == []
    [difference] = await ensure_bucket(client, "AGENTS")
    assert "accepts no atomic batches" in str(difference)
    assert not difference.fixed


async def test_a_server_without_jetstream_is_said() -> None:
    async with EmbeddedNats(
        extra_config='accounts { P { users: [{user: "u", password: "p"}] } }\n'
    ) as server:
        client = await connect(NatsOptions(url=server.url, user="u", password="p"), name="none")
        try:
            with pytest.raises((SourceUnavailable, TopologyError), match="JetStream"):
                await provision(client, [PLAN], CONSUMER)
        finally:
            await client.close()
