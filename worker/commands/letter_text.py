"""The body of a dead letter as a person reads and corrects it: JSON, whatever it came as."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click
import msgspec

from penstock.worker.errors import PenstockError

_HEX_WIDTH = 16
_PACKED = ("msgpack", "x-msgpack", "vnd.msgpack", "cloudevents+msgpack")


def is_packed(headers: Mapping[str, str]) -> bool:
    """Whether the headers say that the body is MessagePack."""
    named = {name.lower(): text for name, text in headers.items()}
    stated = (text for name, text in named.items() if name.endswith("datacontenttype"))
    said = named.get("content-type") or next(stated, "")
    return said.partition(";")[0].strip().lower().rpartition("/")[2] in _PACKED


def read(body: bytes, *, packed: bool) -> tuple[str, str]:
    """The body as text, and what it is: ``json``, ``msgpack`` (as JSON), ``text`` or ``hex``."""
    if packed:
        try:
            return json.dumps(_unpacked(body), indent=2, ensure_ascii=False), "msgpack"
        except (ValueError, RecursionError, TypeError):
            return "\n".join(_hex(body)), "hex"
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return "\n".join(_hex(body)), "hex"
    try:
        return msgspec.json.format(text, indent=2), "json"
    except (ValueError, RecursionError):
        odd = any(not letter.isprintable() and letter not in "\r\n\t" for letter in text)
        return ("\n".join(_hex(body)), "hex") if odd else (text, "text")


def edited(body: bytes, *, packed: bool) -> bytes:
    """What a person makes of it in an editor. Raises PenstockError if nothing was changed."""
    text, form = read(body, packed=packed)
    if form == "hex":
        text = body.decode("utf-8", "replace")
    found = click.edit(text, extension=".json")
    if found is None or found.strip() == text.strip():
        raise PenstockError("the body was not changed: nothing is sent")
    return encoded(found.encode(), packed=packed)


def encoded(given: bytes, *, packed: bool) -> bytes:
    """A new body as it is sent: JSON becomes MessagePack where the letter is that. Raises
    PenstockError if it is neither.
    """
    if not packed:
        return given
    try:
        _unpacked(given)
    except ValueError:
        try:
            return msgspec.msgpack.encode(msgspec.json.decode(given))
        except ValueError as error:
            text = f"the new body is neither MessagePack nor JSON: {error}"
            raise PenstockError(f"{text}; correct it, nothing is sent") from error
    return given


def _unpacked(body: bytes) -> Any:
    return msgspec.msgpack.decode(body)


def _hex(body: bytes) -> Iterator[str]:
    """Offset, bytes and characters, as ``hexdump -C`` writes them."""
    for at in range(0, len(body), _HEX_WIDTH):
        part = body[at : at + _HEX_WIDTH]
        shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)  # noqa: PLR2004
        yield f"{at:08x}  {part.hex(' '):<{3 * _HEX_WIDTH}} |{shown}|"
