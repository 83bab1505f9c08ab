"""Whoever asks is told something, whatever happens to the read."""

from penstock.worker.errors import PenstockError, Unavailable
from penstock.worker.logger import Logger
from penstock.worker.sending.reads import Answering, ReadRefused

log = Logger(__name__)

_AWAY, _DEFECT = 503, 500


class ReadFailed(PenstockError):
    """What to tell who asks instead of a page. ``code`` is as in HTTP."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


async def answered(reads: Answering, name: str, agent: str, body: bytes) -> bytes:
    """The page as JSON. Raises ReadFailed, and nothing else; the log says what is not the fault of
    who asks.
    """
    try:
        return await reads.answer(name, agent, body)
    except ReadRefused as error:
        raise ReadFailed(error.code, str(error)) from error
    except Unavailable as error:
        log.warning("read_failed", read=name, error=str(error))
        raise ReadFailed(_AWAY, str(error)) from error
    except Exception as error:
        log.exception("read_failed", read=name)
        text = f"the worker failed, its log says where: {error!r}"
        raise ReadFailed(_DEFECT, text) from error
