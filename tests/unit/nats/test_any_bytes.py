"""Our parser and nats-py's own, with any bytes in every field: the same frames, or a clean end."""

import pytest

from penstock.worker.nats.headers import attributes_of, header_lines
from penstock.worker.nats.wire import BatchParser, Frame
from tests.support.nats_frames import Recorder, compare


async def test_five_thousand_frames_are_read_as_they_were_sent() -> None:
    tally = await compare(5_000, seed=1)
    assert tally["as the stock parser"] > 500
    assert tally["where the stock parser fails"] > 500
    assert tally["refused"] > 500


@pytest.mark.parametrize("odd", [b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\xa0", b"\xff", b"\x00"])
@pytest.mark.parametrize("sid", [b"7", b"71"])
async def test_only_space_and_tab_part_words(odd: bytes, sid: bytes) -> None:
    client, own = Recorder(), list[Frame]()
    parser = BatchParser.of(client)
    parser.register(7, own.extend)
    subject = b"agents.a%b7 9.up" % odd if odd == b" " else b"agents.a%b7.up" % odd
    await parser.parse(b"MSG %b %b r%br 2\r\n{}\r\n" % (subject, sid, odd))
    expected = (subject, b"r%br" % odd, None, b"{}")
    assert own + [one[1:] for one in client.seen] == [expected]


async def test_a_message_that_the_client_cannot_read_costs_no_connection() -> None:
    class Picky(Recorder):
        async def _process_msg(self, *_: object) -> None:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    client = Picky()
    await BatchParser.of(client).parse(b"MSG \xff 71 2\r\n{}\r\nPING\r\n")
    assert client.seen == [("PING",)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        (b"%41%2541", "A%41"),
        (b"100%", "100%"),
        (b'"a \\"b\\" %43"', 'a "b" C'),
        ("ü".encode(), "ü"),
        (b"", ""),
    ],
)
def test_attributes_are_unquoted_and_decoded_once(value: bytes, text: str) -> None:
    block = b"NATS/1.0\r\nCE-Id: %b\r\nce-id: second\r\nx: y\r\n\r\n" % value
    assert attributes_of(header_lines(block)) == {"id": text}


@pytest.mark.parametrize("value", [b"%C0%A0", b"%FF", b"\xff"])
def test_attributes_that_are_no_text_are_refused(value: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        attributes_of(header_lines(b"NATS/1.0\r\nce-id: %b\r\n\r\n" % value))
