"""Waiting for the receipt of an event that is on its way."""

import asyncio
from functools import partial

from penstock.worker.sending.outgoing import Confirmation
from penstock.worker.sending.receipts import Awaited, OutcomeUnknown, Receipt


async def receipt_of(
    subject: str,
    confirmed: asyncio.Future[Confirmation],
    awaited: Awaited,
    timeout: float | None,
) -> Receipt:
    """The receipt of what was sent to ``subject``, within ``timeout`` seconds (None: at any time).

    The event goes its way whatever happens here. Raises EventRejected, OutcomeUnknown, and what
    ``confirmed`` raises.
    """
    confirmed.add_done_callback(partial(_fail, awaited.receipt))
    try:
        async with asyncio.timeout(timeout):
            return await awaited.receipt
    except TimeoutError:
        raise OutcomeUnknown(_unknown(subject, confirmed, timeout)) from None
    finally:
        awaited.receipt.cancel()


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
