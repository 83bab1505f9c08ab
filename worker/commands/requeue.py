"""``penstock dlq requeue``: send dead letters again, and see what becomes of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers.ports import Broker, Copy
from penstock.worker.brokers.scope import Scope
from penstock.worker.commands.dlq import by, headers_of, letter_box, meant, parts
from penstock.worker.commands.letter_report import Result, progress, tell, tell_dry
from penstock.worker.commands.letter_text import edited, encoded, is_packed
from penstock.worker.errors import PenstockError, SourceUnavailable
from penstock.worker.postgres.letter_box import (
    STATUSES,
    Filter,
    Letter,
    PostgresLetters,
    WholeLetter,
)
from penstock.worker.sending.outgoing import PublishRefused
from penstock.worker.settings.keys import Settings
from penstock.worker.wording import why

_TO_SEND = ("kept", "rejected")
_ANSWERED = tuple(status for status in STATUSES if status != "requeued")
_POLL_SECONDS = 0.2


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be sent instead of what came; ``again`` drops earlier corrections."""

    edit: bool = False
    file: str | None = None
    subject: str | None = None
    headers: Mapping[str, str] = {}
    again: bool = False


def correction(
    edit: bool,  # noqa: FBT001  (as click parsed them)
    body: str | None,
    to: str | None,
    header: Sequence[str],
    as_it_came: bool,  # noqa: FBT001
) -> Correction:
    """What the options say. Raises PenstockError."""
    pairs = [one.partition("=") for one in header]
    if odd := [name for name, equals, _ in pairs if not equals]:
        raise PenstockError(f"--header {odd[0]!r}: write NAME=TEXT, or NAME= to remove it")
    headers = {name.strip(): text.strip() for name, _, text in pairs}
    return Correction(edit=edit, file=body, subject=to, headers=headers, again=as_it_came)


async def requeue(
    settings: Settings,
    found: Filter,
    correction: Correction,
    *,
    wait: float,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Send letters; 0 if none is known to have failed. Raises PenstockError if nothing was sent."""
    async with letter_box(settings) as box:
        ids = await meant(box, found, _TO_SEND)
        _check(ids, correction)
        if dry_run:
            tell_dry(list(ids), as_json=as_json)
            return 0
        body = await _new_body(box, list(ids), correction)  # before others wait: it may take long
        async with _brokers(settings) as brokers:
            sending = _Sending(box, brokers, correction, body)
            await sending.check(ids)
            await sending.send(list(ids))
        await _answers(box, sending.results, wait)
    return tell(list(sending.results.values()), as_json=as_json)


def _check(ids: Mapping[int, str], correction: Correction) -> None:
    stored = [letter_id for letter_id, status in ids.items() if status == "stored"]
    if stored:
        named = ", ".join(map(str, stored))
        raise PenstockError(f"letter {named} is stored: there is nothing to send, nothing is sent")
    if correction.edit and correction.file is not None:
        raise PenstockError("--edit and --body are given: use one of them")
    if (correction.edit or correction.file is not None) and len(ids) > 1:
        raise PenstockError(f"--edit and --body are for one letter, and {len(ids)} are meant")


async def _new_body(
    box: PostgresLetters, ids: Sequence[int], correction: Correction
) -> bytes | None:
    """The corrected body of the one letter that is meant, if it is to be corrected."""
    if not correction.edit and correction.file is None:
        return None
    [letter] = await box.whole(ids)
    packed = is_packed({**headers_of(letter), **correction.headers})
    if correction.file is not None:
        return encoded(_contents(correction.file), packed=packed)
    sent = None if correction.again else letter.sent_body
    return edited(letter.body if sent is None else sent, packed=packed)


@asynccontextmanager
async def _brokers(settings: Settings) -> AsyncIterator[Mapping[str, Broker]]:
    """The brokers of the settings by their transport. Raises SourceUnavailable."""
    settings = msgspec.structs.replace(settings, start_timeout=0)
    async with Scope(settings, Catalogue.load(settings.event_packages)) as scope:
        found = [await scope.broker(name) for name in settings.brokers]
        yield {broker.transport: broker for broker in found}


class _Sending:
    """Sends letters through the brokers that they came from; ``results`` by letter."""

    def __init__(
        self,
        box: PostgresLetters,
        brokers: Mapping[str, Broker],
        correction: Correction,
        body: bytes | None,
    ) -> None:
        self._box = box
        self._brokers = brokers
        self._correction = correction
        self._body = body
        self._by = by()
        self.results: dict[int, Result] = {}

    async def check(self, ids: Mapping[int, str]) -> None:
        """Raise PenstockError if one came from a broker that is not there."""
        transports = await self._box.transports(list(ids))
        for transport, letter_id in transports.items():
            if transport not in self._brokers:
                text = f"letter {letter_id} came from {transport}, which is not among brokers = "
                names = ",".join(self._brokers)
                raise PenstockError(f"{text}{names}: add it; nothing is sent")

    async def send(self, ids: Sequence[int]) -> None:
        """Letter after letter, many at once. A bar on a terminal shows rate and time left."""
        with progress(len(ids)) as advance:
            for part in parts(ids):
                letters = await self._box.whole(part)
                for transport, broker in self._brokers.items():
                    own = [letter for letter in letters if letter.transport == transport]
                    await self._send(broker, own)
                advance(len(part))

    async def _send(self, broker: Broker, letters: Sequence[WholeLetter]) -> None:
        """Mark, then send: the answer of a worker may come before ours."""
        pairs = [(letter, await self._marked(broker, letter)) for letter in letters]
        marked = [(letter, copy) for letter, copy in pairs if copy is not None]
        outcomes: list[PenstockError | None]
        try:
            outcomes = await broker.resend([copy for _, copy in marked]) if marked else []
        except SourceUnavailable as error:
            outcomes = [error] * len(marked)
        for (letter, copy), outcome in zip(marked, outcomes, strict=True):
            result = self.results[letter.letter_id] = _result(letter, outcome)
            if isinstance(outcome, PublishRefused):
                result.status = await self._box.not_sent(letter, copy.requeue_id, self._by)

    async def _marked(self, broker: Broker, letter: WholeLetter) -> Copy | None:
        subject, headers, body = self._content(broker, letter)
        requeue_id = await self._box.requeue(
            letter,
            self._by,
            subject=None if subject == letter.subject else subject,
            headers=None if headers == letter.raw_headers else headers,
            body=None if body == letter.body else body,
        )
        if requeue_id is None:
            text = "somebody else has changed it meanwhile"
            self.results[letter.letter_id] = Result(
                letter_id=letter.letter_id, status=letter.status, sent=False, error=text
            )
            return None
        return Copy(subject, headers, body, requeue_id)

    def _content(self, broker: Broker, letter: WholeLetter) -> tuple[str, bytes, bytes]:
        """Subject, headers and body: as they came, or as they were sent last, with corrections."""
        subject, headers, body = letter.subject or "", letter.raw_headers, letter.body
        if not self._correction.again:
            subject = letter.sent_subject or subject
            headers = headers if letter.sent_headers is None else letter.sent_headers
            body = body if letter.sent_body is None else letter.sent_body
        if self._correction.headers:
            headers = broker.headers_with(headers, self._correction.headers)
        body = body if self._body is None else self._body
        return self._correction.subject or subject, headers, body


def _contents(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise PenstockError(f"cannot read {path}: {why(error)}; nothing is sent") from error


def _result(letter: Letter, outcome: PenstockError | None) -> Result:
    if outcome is None:
        return Result(letter_id=letter.letter_id, status="requeued")
    reason = "publish_refused" if isinstance(outcome, PublishRefused) else "publish_failed"
    return Result(
        letter_id=letter.letter_id,
        status="requeued",
        sent=False,
        reason=reason,
        error=str(outcome),
    )


async def _answers(box: PostgresLetters, results: Mapping[int, Result], wait: float) -> None:
    """Wait until workers have answered for all that was sent, or ``wait`` seconds are over."""
    due = {key: one for key, one in results.items() if one.sent}
    deadline = time.monotonic() + wait
    while due:
        for letter in await box.first(Filter(ids=list(due), statuses=_ANSWERED), len(due)):
            result = due.pop(letter.letter_id)
            result.status = letter.status
            if letter.status == "rejected":
                result.reason, result.error = letter.reason, letter.error
        if time.monotonic() >= deadline:
            return
        if due:
            await asyncio.sleep(_POLL_SECONDS)
