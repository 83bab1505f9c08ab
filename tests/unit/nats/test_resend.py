"""Header lines of a letter that is sent again: byte by byte, but for what the server reads."""

import pytest

from penstock.worker.brokers.ports import Copy
from penstock.worker.nats.message import JetStreamMessages
from penstock.worker.nats.requests import _command
from penstock.worker.nats.resend import _request, headers_with
from penstock.worker.sending.outgoing import PublishRefused

TOKEN = "0190f5a4-6f0e-7c3a-9b1d-2f5e8a7c6b4d"
CAME = (
    b"NATS/1.0\r\nNats-Msg-Id: old\r\nce-type: a\xff b\r\nX-Odd:  \x0bspaced \r\n"
    b"nats-expected-last-sequence: 4\r\nPenstock-Letter: earlier\r\nX-Odd: twice\r\n\r\n"
)
_REPLY = b"$JS.ACK.S.penstock.1.7.7.1700000000000000000.0"


def test_lines_are_kept_and_the_worker_finds_the_mark() -> None:
    _, block, body, _ = _command("a.b", *("reply", *_request(Copy("a.b", CAME, b"{}", TOKEN))[1:]))
    assert block == (
        f"NATS/1.0\r\nNats-Msg-Id: {TOKEN}\r\nPenstock-Letter: {TOKEN}\r\n".encode()
        + b"ce-type: a\xff b\r\nX-Odd:  \x0bspaced \r\nX-Odd: twice\r\n\r\n"
    )
    [message] = JetStreamMessages([(b"a.b", _REPLY, block, body)])
    assert (message.requeue_id, message.plain) == (TOKEN, False)


@pytest.mark.parametrize("block", [None, b"NATS/1.0\r\nPenstock-Letter: not-a-uuid\r\n\r\n", CAME])
def test_any_other_message_is_no_requeue(block: bytes | None) -> None:
    [message] = JetStreamMessages([(b"a.b", _REPLY, block, b"")])
    assert message.requeue_id is None


def test_headers_are_changed_by_name() -> None:
    changed = headers_with(CAME, {"CE-Type": "tasks.updated", "x-odd": "", "penstock-letter": ""})
    assert changed == (
        b"NATS/1.0\r\nNats-Msg-Id: old\r\nnats-expected-last-sequence: 4\r\n"
        b"CE-Type: tasks.updated\r\n\r\n"
    )
    assert headers_with(b"", {"x": ""}) == b""
    with pytest.raises(PublishRefused, match="cannot be sent on NATS"):
        headers_with(CAME, {"x": "a\r\nNats-Msg-Id: b"})
