"""What a delivery says about itself, and what the server's words mean."""

import pytest

from penstock.worker.nats.message import JetStreamMessage, JetStreamMessages
from penstock.worker.nats.pull import Verdict, verdict_of

V1 = b"$JS.ACK.ORDERS.penstock.3.1052.2044.1700000000500000000.17"
V2 = b"$JS.ACK.hub.ACCHASH.ORDERS.penstock.3.1052.2044.1700000000500000000.17.x8Kq"
V2_BARE = V2.rpartition(b".")[0]


def delivered(header: bytes | None) -> JetStreamMessage:
    return JetStreamMessages([(b"a.b", V1, header, b"body")])[0]


@pytest.mark.parametrize("reply", [V1, V2, V2_BARE])
def test_the_reply_tells_position_deliveries_and_time(reply: bytes) -> None:
    message, again = JetStreamMessages([(b"agents.a-1.heartbeat", reply, None, b"{}")] * 2)
    assert message == again
    assert message.subject == "agents.a-1.heartbeat"
    assert message.offset == 1052
    assert message.deliveries == 3
    assert message.stored_at == 1_700_000_000.5


def test_headers_keep_their_names_and_the_first_value_wins() -> None:
    block = b"NATS/1.0\r\nCe-Id: 7\r\nX:\r\nX: second\r\nno colon\r\nT: a: b \xff\r\n\r\n"
    assert delivered(block).headers == {
        "Ce-Id": "7",
        "X": "",
        "T": "a: b \N{REPLACEMENT CHARACTER}",
    }
    assert delivered(None).headers == {}


@pytest.mark.parametrize(
    ("header", "plain"),
    [
        (None, True),
        (b"NATS/1.0\r\nNats-Msg-Id: ce-1\r\nStatus: 404\r\n\r\n", True),
        (b"NATS/1.0\r\nce-id: 1\r\n\r\n", False),
        (b"NATS/1.0\r\nA: b\r\nCE-Type: t\r\n\r\n", False),
        (b"NATS/1.0\r\nCONTENT-TYPE: application/json\r\n\r\n", False),
        (b"NATS/1.0\r\nX-Content-Type: application/json\r\n\r\n", True),
    ],
)
def test_plain_unless_a_header_changes_how_the_body_is_read(
    header: bytes | None,
    plain: bool,  # noqa: FBT001  (a column of the table)
) -> None:
    assert delivered(header).plain is plain


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        (b"NATS/1.0 100 Idle Heartbeat", Verdict.ALIVE),
        (b"NATS/1.0 404 No Messages", Verdict.ENDED),
        (b"NATS/1.0 408 Request Timeout", Verdict.ENDED),
        (b"NATS/1.0 409 Batch Completed", Verdict.ENDED),
        (b"NATS/1.0 409 Message Size Exceeds MaxBytes", Verdict.ENDED),
        (b"NATS/1.0 409 Leadership Change", Verdict.PAUSED),
        (b"NATS/1.0 409 Server Shutdown", Verdict.PAUSED),
        (b"NATS/1.0 409 Exceeded MaxWaiting", Verdict.PAUSED),
        (b"NATS/1.0 409 Consumer Deleted", Verdict.GONE),
        (b"NATS/1.0 503", Verdict.GONE),
        (b"NATS/1.0 400 Bad Request", Verdict.REFUSED),
        (b"NATS/1.0 409 Exceeded MaxRequestBatch of 10", Verdict.REFUSED),
        (b"NATS/1.0 409 Consumer is push based", Verdict.REFUSED),
        (b"NATS/1.0 999 New", Verdict.PAUSED),
        (None, Verdict.PAUSED),
    ],
)
def test_the_servers_words(line: bytes | None, verdict: Verdict) -> None:
    header = None if line is None else line + b"\r\nNats-Pending-Messages: 2\r\n\r\n"
    assert verdict_of(header)[0] is verdict
