"""The events of a file, however it holds them: one a line, pretty-printed, or in arrays.

A file is read in pieces of lines, and kept only as far as one event: also an array that is one
line of many gigabytes. What is no event is told with its place, and takes no other event with it.
"""

import re
from collections.abc import Iterator

import msgspec

from penstock.worker.sending.address import address

LARGEST = 64 * 1024 * 1024
"""Bytes of an event: as much as a NATS server can be made to take."""

_BETWEEN = b" \t\r,\x1e"
"""What may stand around an event; JSON text sequences begin each with a record separator."""
_MARK = b"\xef\xbb\xbf"
"""The byte order mark that some editors begin a file with."""

_token = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+("?)|[\[\]{}]', re.DOTALL).finditer
"""A text, with its closing quote if that is there, or a bracket."""
_string_end = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL).match
_element_end = re.compile(rb"[,\]]")


class Piece(msgspec.Struct, frozen=True):
    """A line, or a part of a long one: whether it ``begins`` and ``ends`` the line."""

    number: int
    text: bytes
    begins: bool = True
    ends: bool = True


class Document(msgspec.Struct, frozen=True):
    """An event with where it is sent to; or what is none, with an ``error``."""

    place: str
    payload: bytes = b""
    subject: str = ""
    msg_id: str = ""
    error: str = ""


def document(place: str, payload: bytes) -> Document:
    """The event in ``payload``, if it is one."""
    try:
        subject, msg_id = address(payload)
    except (ValueError, RecursionError) as exc:
        return Document(place, error=str(exc))
    return Document(place, payload, subject, msg_id)


class Documents:
    """Finds the events in the pieces of a file."""

    def __init__(self) -> None:
        self._text = bytearray()  # of an event that is not complete yet
        self._open = bytearray()  # its brackets
        self._in_string = False
        self._place = ""
        self._margin = 0  # of the line where it began
        self._lost = False  # behind something broken, until something may be an event again
        self._array = 0  # the line where the array began, or 0
        self._index = 0

    def take(self, piece: Piece) -> Iterator[Document]:
        """What is complete with this piece."""
        text = piece.text
        if piece.begins:
            text = text.removeprefix(_MARK) if piece.number == 1 else text
            margin = len(text) - len(text.lstrip(_BETWEEN))
            start = text.strip(_BETWEEN)
            whole = self._whole(piece, start, margin)
            if whole or self._begins(start, margin):
                yield from self._give_up()
                self._lost = False
            if whole:
                yield msgspec.structs.replace(whole, place=self._next(piece.number))
                return
            if not self._text:
                self._margin = margin
        if not self._lost:
            yield from self._scan(piece, text)
            yield from self._check(piece)

    def end(self) -> Iterator[Document]:
        """What the file left incomplete."""
        yield from self._give_up()
        if self._array:
            yield Document(f"line {self._array}", error="the array that begins here has no end")

    def _whole(self, piece: Piece, start: bytes, margin: int) -> Document | None:
        """The event that is this line; it is one also where something before it lacks its end."""
        if not piece.ends or not start.startswith(b"{") or not start.endswith(b"}"):
            return None
        if (self._text or self._lost) and margin > self._margin:
            return None
        found = document("", start)
        return None if found.error else found

    def _begins(self, start: bytes, margin: int) -> bool:
        """Whether a line cannot belong to what is open, or to what was broken, before it."""
        if margin > self._margin or self._open.endswith(b"["):
            return False
        return start.startswith((b"{", b"[", b"]") if self._array else (b"{", b"["))

    def _scan(self, piece: Piece, text: bytes) -> Iterator[Document]:
        at = 0
        while True:
            if not self._text:
                at = self._between(piece.number, text, at)
                if at == len(text):
                    return
                self._place = self._next(piece.number)
                if text[at] not in b"{[":
                    end = self._word_end(text, at)
                    yield document(self._place, text[at:end].strip())
                    self._lost = end == len(text) and not piece.ends
                    at = end
                    continue
            end, complete = self._to_end(text, at)
            self._text += text[at:end]
            at = end
            if not complete:
                return
            yield document(self._place, bytes(self._text))
            self._text.clear()

    def _between(self, number: int, text: bytes, at: int) -> int:
        """Where the next event begins, behind the brackets of arrays."""
        while True:
            at = len(text) - len(text[at:].lstrip(_BETWEEN))
            if text[at : at + 1] == b"[" and not self._array:
                self._array, self._index = number, 0
            elif text[at : at + 1] == b"]" and self._array:
                self._array = 0
            else:
                return at
            at += 1

    def _word_end(self, text: bytes, at: int) -> int:
        """The end of what is no object: the line's, or the element's."""
        found = _element_end.search(text, at) if self._array else None
        return found.start() if found else len(text)

    def _to_end(self, text: bytes, at: int) -> tuple[int, bool]:
        """The end of the open event, and whether it is complete there."""
        if self._in_string:
            closing = _string_end(text, at)
            if closing is None:
                return len(text), False
            self._in_string, at = False, closing.end()
        for token in _token(text, at):
            first = token[0][:1]
            if first == b'"':
                self._in_string = not token[1]
            elif first in b"{[":
                self._open += first
            else:
                self._open.pop()
                if not self._open:
                    return token.end(), True
        return len(text), False

    def _check(self, piece: Piece) -> Iterator[Document]:
        """Give up what cannot become an event: no text of JSON goes on in the next line."""
        if (self._in_string and piece.ends) or len(self._text) > LARGEST:
            yield from self._give_up()
            self._lost = True

    def _give_up(self) -> Iterator[Document]:
        if self._text:
            if len(self._text) > LARGEST:
                yield Document(self._place, error=f"longer than {LARGEST} bytes")
            else:
                yield document(self._place, bytes(self._text))
        self._text.clear()
        self._open.clear()
        self._in_string = False

    def _next(self, number: int) -> str:
        """The place of the event that begins in this line."""
        self._index += 1
        return f"line {number}, event {self._index}" if self._array else f"line {number}"
