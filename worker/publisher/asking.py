"""Waiting for the receipt of an event that is on its way."""

import asyncio

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
    confirmed.add_done_callback(_heard)
    try:
        async with asyncio.timeout(timeout):
            waits: set[asyncio.Future[object]] = {confirmed, awaited.receipt}  # type: ignore[arg-type]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not awaited.receipt.done():
                confirmed.result()
            return await awaited.receipt
    except TimeoutError:
        raise OutcomeUnknown(_unknown(subject, confirmed, timeout)) from None
    finally:
        awaited.receipt.cancel()


def _heard(confirmed: asyncio.Future[Confirmation]) -> None:
    """Whoever stopped waiting has no use for its error."""
    if not confirmed.cancelled():
        confirmed.exception()


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
