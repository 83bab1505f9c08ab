"""Which receipt each message gets, as the batch says."""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec
import pytest
from nats.aio.client import Client

from penstock.schemas.catalogue import Catalogue
from penstock.worker.nats.message import JetStreamMessage
from penstock.worker.nats.replies import NatsReplies
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.ports import DeadLetter, Message, Written
from penstock.worker.pipeline.receipts import Address, Receipts
from penstock.worker.rabbitmq.properties import FLAGS_AT, joined, short_text
from penstock.worker.rabbitmq.replies import asker
from tests.support.batches import batch_of, message

CATALOGUE = Catalogue.load()
REPLY_TO, CORRELATION_ID, MESSAGE_ID = 0x0200, 0x0400, 0x0080


class Asked:
    """Everybody asks; keeps what is sent."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.sent: list[tuple[Address, dict[str, str]]] = []
        self._breaks = breaks

    def asked(self, messages: Sequence[Message]) -> Iterable[tuple[int, Address]]:
        return [(place, place) for place, _ in enumerate(messages)]

    def send(self, answers: Sequence[tuple[Address, bytes]]) -> bool:
        if self._breaks:
            raise ZeroDivisionError
        self.sent += [(address, msgspec.json.decode(body)) for address, body in answers]
        return True


def decoded(*messages: Message) -> Batch:
    decoder = Decoder(CATALOGUE, Window(CATALOGUE, {}, past="unlimited"), max_bytes=1 << 20)
    batch = batch_of(messages)
    batch.outcomes = decoder.decode(messages)
    return batch


def count(metrics: Metrics, outcome: str) -> float | None:
    labels = {"source": "S", "outcome": outcome}
    return metrics.registry.get_sample_value("penstock_receipts_total", labels)


async def test_each_message_is_told_its_own_outcome() -> None:
    bad = Message(subject="agents.a-1.heartbeat", body=b"{")
    batch = decoded(message(1), bad, message(2), message(2), message(3), message(4))
    new, _, two, _, refused, known = batch.outcomes
    assert not isinstance(new, DeadLetter)
    assert not isinstance(two, DeadLetter)
    assert not isinstance(refused, DeadLetter)
    assert not isinstance(known, DeadLetter)
    letter = DeadLetter(
        message=batch.messages[4],
        reason="row_rejected",
        error="22003: \ud800" + "x" * 5_000,
        event_id=refused.id,
        occurred_at=refused.time,
    )
    letters = [*batch.letters, letter]
    written = Written(new=2, duplicate=2, letters=letters, events=[new, two], refused=letters)
    replies, metrics = Asked(), Metrics()
    Receipts(replies, metrics, "S").answer(batch, written)
    words = [answer["outcome"] for _, answer in replies.sent]
    assert [address for address, _ in replies.sent] == [0, 1, 2, 3, 4, 5]
    assert words == ["stored", "rejected", "stored", "duplicate", "rejected", "duplicate"]
    assert replies.sent[1][1]["reason"] == "not_json"
    assert (replies.sent[4][1]["reason"], len(replies.sent[4][1]["error"])) == (
        "row_rejected",
        1000,
    )
    assert [count(metrics, word) for word in ("stored", "duplicate", "rejected")] == [2, 2, 2]


async def test_a_failure_to_answer_is_no_failure_of_the_batch() -> None:
    batch = decoded(message(1))
    Receipts(Asked(breaks=True), Metrics(), "S").answer(
        batch, Written(new=1, duplicate=0, letters=())
    )
    await asyncio.sleep(0)


def asking(*lines: str) -> JetStreamMessage:
    header = "".join(["NATS/1.0\r\n", *(f"{line}\r\n" for line in lines), "\r\n"]).encode()
    return JetStreamMessage(subject="s", body=b"", reply=b"$JS.ACK.S.C.1.1.1.1.0", header=header)


def nats_replies(*inboxes: str) -> NatsReplies:
    return NatsReplies(Client(), inboxes)


GOOD = ["_INBOX.abc.1", "_INBOX.x", "mine.in.box.7"]
HOSTILE = [
    *("$JS.API.STREAM.DELETE.X", "$SYS.REQ.SERVER.PING", "$KV.AGENT_STATE.a.b", "agents.a.updated"),
    *(
        "_INBOX",
        "_INBOX.",
        "_INBOX.*",
        "_INBOX.>",
        "_INBOX.a.>",
        "_INBOX..a",
        "_INBOX.a.",
        "_INBOXa.b",
    ),
    *("_INBOX.a b", "_INBOX.a\tb", "_INBOX.ü", "_INBOX." + "a" * 260, "mine.in.boxes.7", "", " "),
    "_INBOX.a 3\r\nPUB evil 0",
]


@pytest.mark.parametrize("address", GOOD + HOSTILE)
def test_on_nats_only_inboxes_get_answers(address: str) -> None:
    replies = nats_replies("_INBOX", "mine.in.box")
    first = asking(f"Penstock-Receipt: {address}", "Penstock-Receipt: _INBOX.second")
    found = dict(replies.asked([asking(), first, asking("Nats-Msg-Id: 7")]))
    assert found == ({1: address.encode()} if address in GOOD else {})


def test_nobody_who_does_not_ask_is_looked_at() -> None:
    replies = nats_replies("_INBOX")
    quiet = [asking("Nats-Msg-Id: 1"), asking("penstock-receipt: _INBOX.a"), message(1)]
    assert list(replies.asked(quiet)) == []
    assert list(replies.asked([])) == []


DIRECT = "amq.rabbitmq.reply-to.g1hoAw==.Zm9v+/8="


@pytest.mark.parametrize(
    ("address", "good"),
    [
        (DIRECT, True),
        ("amq.rabbitmq.reply-to", False),
        ("amq.rabbitmq.reply-to.", False),
        ("amq.rabbitmq.reply-to.a", False),
        ("amq.rabbitmq.reply-to.a.b.c", False),
        ("amq.rabbitmq.reply-to.{}.b", False),
        ("amq.rabbitmq.reply-to.a.b\nc", False),
        ("AGENT_STATE", False),
        ("amq.gen-abc", False),
        (f"AGENT_STATE{DIRECT}", False),
    ],
)
def test_on_rabbitmq_only_direct_replies_are_sent(address: str, good: bool) -> None:  # noqa: FBT001
    def header(properties: dict[int, bytes]) -> bytes:
        return bytes(FLAGS_AT) + joined(properties, ())

    asked = {REPLY_TO: short_text(address), MESSAGE_ID: short_text("m-1")}
    found = asker(header(asked))
    assert (found is not None) == good
    if found is not None:
        assert found[0] == address.encode()
        assert b"m-1" in found[1]
        both = asker(header({**asked, CORRELATION_ID: short_text("c-1")}))
        assert both is not None
        assert b"c-1" in both[1]
        assert b"m-1" not in both[1]
    assert asker(header(asked)[: FLAGS_AT + 9]) is None, "cut off"
    assert asker(header({MESSAGE_ID: short_text(DIRECT)})) is None
