"""Sending an event and waiting for its receipt."""

import asyncio
from functools import partial

from penstock.worker.sending.outgoing import Confirmation
from penstock.worker.sending.ports import Sender
from penstock.worker.sending.receipts import Awaited, OutcomeUnknown, Receipt, Receipts

_NO_ROOM = (
    "{!r}: not sent, as for {:g} s too many events before it were not confirmed (max_pending, "
    "max_pending_bytes): is the broker there? Publish it again"
)


async def ask(
    sender: Sender,
    receipts: Receipts,
    subject: str,
    payload: bytes,
    msg_id: str,
    timeout: float | None,
) -> asyncio.Future[Receipt]:
    """Send as soon as there is room; the rest is as `receipt_of` has it, and ``timeout`` holds for
    both. Raises OutcomeUnknown if there was no room in that time.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    awaited = await receipts.expect()
    try:
        async with asyncio.timeout_at(None if timeout is None else begun + timeout):
            confirmed = await sender.send(subject, payload, msg_id, awaited.reply_to)
    except TimeoutError:
        awaited.receipt.cancel()
        raise OutcomeUnknown(_NO_ROOM.format(subject, timeout)) from None
    except BaseException:
        awaited.receipt.cancel()
        raise
    return receipt_of(subject, confirmed, awaited, timeout, spent=loop.time() - begun)


def receipt_of(
    subject: str,
    confirmed: asyncio.Future[Confirmation],
    awaited: Awaited,
    timeout: float | None,
    *,
    spent: float = 0.0,
) -> asyncio.Future[Receipt]:
    """The receipt of what was sent to ``subject``, within ``timeout`` seconds (None: at any time),
    of which so many are ``spent``.

    The event goes its way whatever happens here. The future raises EventRejected, OutcomeUnknown,
    and what ``confirmed`` raises.
    """
    confirmed.add_done_callback(partial(_fail, awaited.receipt))
    asked = asyncio.ensure_future(_within(subject, confirmed, awaited, timeout, spent))
    # Not in the task itself: one that is cancelled at once never begins.
    asked.add_done_callback(lambda _: awaited.receipt.cancel())
    return asked


async def _within(
    subject: str,
    confirmed: asyncio.Future[Confirmation],
    awaited: Awaited,
    timeout: float | None,
    spent: float,
) -> Receipt:
    try:
        async with asyncio.timeout(None if timeout is None else timeout - spent):
            return await awaited.receipt
    except TimeoutError:
        raise OutcomeUnknown(_unknown(subject, confirmed, timeout)) from None


def _fail(receipt: asyncio.Future[Receipt], confirmed: asyncio.Future[Confirmation]) -> None:
    """What was not published gets no receipt."""
    if confirmed.cancelled():
        receipt.cancel()
    elif (error := confirmed.exception()) is not None and not receipt.done():
        receipt.set_exception(error)
        receipt.exception()  # mark it as retrieved: its caller may be gone


def _unknown(subject: str, confirmed: asyncio.Future[Confirmation], timeout: float | None) -> str:
    if not confirmed.done():
        return (
            f"{subject!r}: not confirmed in {timeout:g} s, and so not known whether it is stored; "
            "the Publisher goes on sending it until it is closed"
        )
    kept = confirmed.result()
    return (
        f"{subject!r}: {kept.stream} has it, and no receipt came in {timeout:g} s, so it is not "
        "known yet whether it is stored; is a worker running, and may it answer (receipts)?"
    )
