"""Logging, configured once per process: one way out for our lines, the libraries' and warnings.

Lines go to standard error, so that a command's answer on standard output stays clean. Tracebacks
come without local variables: those hold payloads.
"""

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor

from penstock.worker.logger import Line

_FIRST = ("timestamp", "level", "event", "logger")


def configure(level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """Log from ``level`` on to ``stream`` (standard error) as ``console``, ``json`` or ``auto``.

    ``auto`` is console on a terminal, JSON elsewhere. May be called again; the last call counts.
    """
    out = stream or sys.stderr
    console = form == "console" or (form == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _unfold],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_console(colors=out.isatty()) if console else _json()),
            ],
        )
    )
    _route(handler, level)


def _route(handler: logging.Handler, level: str) -> None:
    """Send everything to one handler; of the libraries only what may need attention."""
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for chatty in ("aiormq", "aio_pika", "asyncpg.pool"):
        # Every attempt to reconnect, with a traceback; what matters is logged by the adapters.
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    logging.getLogger("penstock").setLevel(_number(level))
    logging.captureWarnings(capture=True)


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _console(*, colors: bool) -> list[Processor]:
    return [
        structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _json() -> list[Processor]:
    return [structlog.processors.format_exc_info, _ordered, structlog.processors.JSONRenderer()]


def _unfold(_logger: object, _method: str, line: EventDict) -> EventDict:
    """Our own line came through the standard library: its fields are fields again."""
    written = line["_record"].msg
    if isinstance(written, Line):
        line.update(written.fields, event=written.event)
    return line


def _ordered(_logger: object, _method: str, line: EventDict) -> EventDict:
    """Put first what a person looks for first."""
    return {key: line[key] for key in _FIRST if key in line} | dict(line)
