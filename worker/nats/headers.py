"""Blocks of headers, which come between a control line and the payload.

The format is ADR-4 of https://github.com/nats-io/nats-architecture-and-design, the mapping of
CloudEvents attributes section 3.1.3 of
https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/nats-protocol-binding.md
"""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote_to_bytes

from penstock.worker.pipeline.decode.spellings import attributes_among

Line = tuple[bytes, bytes]
"""Name and value of a header, without the blanks around them."""

_quoted = re.compile(rb'"(.*)"', re.DOTALL).fullmatch
_backslashed = re.compile(rb"\\(.)", re.DOTALL).sub


def header_lines(block: bytes) -> Iterator[Line]:
    """The headers of a block that starts with the line ``NATS/1.0``; never raises."""
    for line in block.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            yield name.strip(), value.strip()


def parse_headers(block: bytes) -> dict[str, str]:
    """The headers of a block as text. If a name was sent twice, the first value."""
    headers: dict[str, str] = {}
    for name, value in header_lines(block):
        headers.setdefault(name.decode("utf-8", "replace"), value.decode("utf-8", "replace"))
    return headers


def attributes_of(lines: Iterable[Line]) -> dict[str, str]:
    """The CloudEvents attributes among headers. Raises UnicodeDecodeError for invalid UTF-8."""
    named = (_named(name, value) for name, value in lines)
    return {name: _unescaped(value) for name, value in attributes_among(named).items()}


def _named(name: bytes, value: bytes) -> tuple[str, bytes]:
    """Name and value as they were meant: ``cloudEvents:id: 7`` has a colon in its name."""
    if name.lower() == b"cloudevents":
        rest, _, value = value.partition(b":")
        name = b"%b:%b" % (name, rest.strip())
    return name.decode("utf-8", "replace"), value.strip()


def _unescaped(value: bytes) -> str:
    """Remove the quotes that older versions of the binding use, then percent-decode once."""
    quoted = _quoted(value)
    return unquote_to_bytes(_backslashed(rb"\1", quoted[1]) if quoted else value).decode()


def status_of(header: bytes | None) -> bytes:
    """The server's status in the first line of a header block, as ``503``; empty if there is none.

    Only the server can set it: a header ``Status`` of a publisher is a separate line.
    """
    return header[9:12].strip() if header is not None and header.startswith(b"NATS/1.0 ") else b""
