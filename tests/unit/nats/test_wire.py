"""The batch parser against bytes: any cut of the stream, foreign frames, garbage."""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.errors import ProtocolError

from penstock.worker.nats.wire import BatchParser, Frame, publishes, send
from tests.support.nats_frames import OTHER, OWN, Recorder, Seen, cut


def frame(sid: int, subject: bytes, reply: bytes, header: bytes | None, body: bytes) -> bytes:
    words = [b"MSG" if header is None else b"HMSG", subject, b"%d" % sid]
    if reply:
        words.append(reply)
    if header is not None:
        words.append(b"%d" % len(header))
    words.append(b"%d" % len((header or b"") + body))
    return b" ".join(words) + b"\r\n" + (header or b"") + body + b"\r\n"


tokens = st.text("abcXYZ012_-", min_size=1, max_size=8).map(str.encode)
nasty = st.sampled_from(
    [b"", b"\r\n", b"MSG a 7 r 5\r\n", b"PING\r\n", b"\r", b"x\r\nHMSG a 7 12 12\r\n", b"\x00\xff"]
)
bodies = st.one_of(nasty, st.binary(max_size=40), st.builds(lambda a, b: a + b, nasty, nasty))
headers = st.none() | st.sampled_from(
    [b"NATS/1.0\r\n\r\n", b"NATS/1.0 100 Idle\r\n\r\n", b"NATS/1.0\r\nStatus: 404\r\n\r\n"]
)
messages = st.tuples(st.sampled_from([OWN, OTHER]), tokens, tokens | st.just(b""), headers, bodies)
commands = st.sampled_from(
    [
        (b"PING\r\n", ("PING",)),
        (b'INFO {"server_id":"S"}\r\n', ("INFO", "{'server_id': 'S'}", False)),
        (b"-ERR 'Permissions Violation'\r\n", ("ERR", "'permissions violation'")),
        (b"+OK\r\n", None),
    ]
)
steps = st.lists(
    st.one_of(messages.map(lambda message: (frame(*message), message)), commands), max_size=12
)


def tagged(frames: list[Frame]) -> list[Seen]:
    return [(OWN, *frame) for frame in frames]


@given(steps=steps, places=st.lists(st.floats(0, 1), max_size=10))
def test_any_cut_gives_the_same_messages(
    steps: list[tuple[bytes, Seen | None]], places: list[float]
) -> None:
    async def scenario() -> None:
        client, own = Recorder(), list[Seen]()
        parser = BatchParser.of(client)
        parser.register(OWN, lambda frames: own.extend(tagged(frames)))
        data = b"".join(data for data, _ in steps)
        for chunk in cut(data, [int(place * len(data)) for place in places]):
            await parser.parse(chunk)
        expected = [seen for _, seen in steps if seen is not None]
        assert own == [seen for seen in expected if seen[0] == OWN]
        assert client.seen == [seen for seen in expected if seen[0] != OWN]

    asyncio.run(scenario())


@given(steps=steps, place=st.floats(0, 1))
def test_taking_over_in_the_middle_loses_nothing(
    steps: list[tuple[bytes, Seen | None]], place: float
) -> None:
    async def scenario() -> None:
        client = Recorder()
        data = b"".join(data for data, _ in steps)
        middle = int(place * len(data))
        await client._ps.parse(data[:middle])
        parser = BatchParser.of(client)
        parser.register(OWN, lambda frames: client.seen.extend(tagged(frames)))
        await parser.parse(data[middle:])
        expected = [seen for _, seen in steps if seen is not None]
        assert sorted(map(repr, client.seen)) == sorted(map(repr, expected))

    asyncio.run(scenario())


async def test_one_wake_up_for_all_messages_of_a_chunk() -> None:
    wakes: list[int] = []
    parser = BatchParser.of(Recorder())
    parser.register(OWN, lambda frames: wakes.append(len(frames)))
    one = frame(OWN, b"s", b"r", None, b"body")
    await parser.parse(one * 50 + one[:9])
    await parser.parse(one[9:])
    assert wakes == [50, 1]


@pytest.mark.parametrize("sid", [OWN, OTHER])
async def test_a_body_of_eight_megabytes_in_small_chunks(sid: int) -> None:
    client, own = Recorder(), list[Seen]()
    parser = BatchParser.of(client)
    parser.register(OWN, lambda frames: own.extend(tagged(frames)))
    body = bytes(range(256)) * 32_768
    data = frame(sid, b"big", b"r", b"NATS/1.0\r\nA: b\r\n\r\n", body)
    for start in range(0, len(data), 32_768):
        await parser.parse(data[start : start + 32_768])
    assert own + client.seen == [(sid, b"big", b"r", b"NATS/1.0\r\nA: b\r\n\r\n", body)]


@pytest.mark.parametrize(
    "garbage",
    [
        b"HELLO\r\n",
        b"\r\n",
        b"MSG\r\n",
        b"MSG s 7 r many\r\n",
        b"MSG s 7 r -5\r\n",
        b"MSG s 7 a b c 5\r\n",
        b"HMSG s 7 r 20 10\r\nxxxxxxxxxx\r\n",
        b"HMSG s 7 5\r\n",
        b"INFO not json\r\n",
        b"-ERR\r\n",
        b"x" * 100_000,
    ],
)
async def test_garbage_makes_the_client_reconnect(garbage: bytes) -> None:
    parser = BatchParser.of(Recorder())
    parser.register(OWN, lambda _frames: None)
    with pytest.raises(ProtocolError):
        await parser.parse(frame(OWN, b"s", b"r", None, b"x") + garbage)


async def test_an_error_of_a_receiver_does_not_kill_the_read_loop() -> None:
    def broken(_frames: list[Frame]) -> None:
        raise LookupError

    parser = BatchParser.of(Recorder())
    parser.register(OWN, broken)
    with pytest.raises(ProtocolError):
        await parser.parse(frame(OWN, b"s", b"r", None, b"x"))


async def test_a_pong_that_nobody_waits_for_is_skipped() -> None:
    client = Recorder()
    given_up: asyncio.Future[bool] = asyncio.Future()
    given_up.cancel()
    client._pongs.append(given_up)
    parser = BatchParser.of(client)
    await parser.parse(b"PONG\r\nPING\r\n")
    assert client.seen == [("PING",)]


async def test_a_new_connection_starts_clean_and_owners_are_told() -> None:
    told: list[str] = []
    own: list[Seen] = []
    parser = BatchParser.of(Recorder())
    parser.register(OWN, lambda frames: own.extend(tagged(frames)))
    parser.on_reset("a", lambda: told.append("a"))
    parser.on_reset("b", lambda: told.append("b"))
    parser.on_reset("b", None)
    await parser.parse(frame(OWN, b"s", b"r", None, b"lost")[:-4])
    parser.reset()
    await parser.parse(frame(OWN, b"s", b"r", None, b"kept"))
    assert told == ["a"]
    assert [seen[-1] for seen in own] == [b"kept"]


async def test_there_is_one_parser_per_connection() -> None:
    client = Recorder()
    assert BatchParser.of(client) is BatchParser.of(client)


async def test_after_unregistering_frames_go_to_nats_py() -> None:
    client = Recorder()
    parser = BatchParser.of(client)
    parser.register(OWN, lambda _frames: pytest.fail("not registered any more"))
    parser.unregister(OWN)
    parser.unregister(OWN)
    await parser.parse(frame(OWN, b"s", b"", None, b"x"))
    assert client.seen == [(OWN, b"s", b"", None, b"x")]


@given(st.lists(tokens, min_size=1, max_size=5), st.binary(max_size=20))
def test_publishes_are_commands_the_server_reads(subjects: list[bytes], payload: bytes) -> None:
    rest = publishes(subjects, payload)
    for subject in subjects:
        match = re.match(rb"PUB (\S+) (\d+)\r\n", rest)
        assert match
        assert match[1] == subject
        size = int(match[2])
        assert rest[match.end() : match.end() + size + 2] == payload + b"\r\n"
        rest = rest[match.end() + size + 2 :]
    assert rest == b""


async def test_what_is_sent_while_away_waits_for_the_connection() -> None:
    client = Client()
    send(client, b"PUB a 0\r\n\r\n")
    assert client.pending_data_size == 11
