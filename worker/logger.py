"""Log lines with fields, through the standard library's logging.

For the rooms that run inside an agent. A library says nothing until its application configures
logging, and never prints to standard output, where an agent may have its protocol.
The worker's configuration (`ops.logs`) shows the fields as it shows those of its own lines.
"""

import logging
import sys

import msgspec


class Line(msgspec.Struct, frozen=True):
    """What happened, and with what. As text: ``nats_disconnected connection='publisher /a'``."""

    event: str
    fields: dict[str, object]

    def __str__(self) -> str:
        return " ".join([self.event, *(f"{key}={value!r}" for key, value in self.fields.items())])


class Logger:
    """Writes lines under ``name``; ``fields`` go with each."""

    def __init__(self, name: str, **fields: object) -> None:
        self._logger = logging.getLogger(name)
        self._fields = fields

    def bind(self, **fields: object) -> "Logger":
        """A logger whose lines have more fields."""
        return Logger(self._logger.name, **self._fields, **fields)

    def info(self, event: str, **fields: object) -> None:
        """As it should be."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something went wrong, and is being taken care of."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, *, exc_info: BaseException | None = None, **fields: object) -> None:
        """A person has to act. ``exc_info`` brings its traceback."""
        self._write(logging.ERROR, event, fields, exc_info)

    def exception(self, event: str, **fields: object) -> None:
        """As `error`, with the exception that is being handled."""
        self._write(logging.ERROR, event, fields, sys.exception())

    def _write(
        self,
        level: int,
        event: str,
        fields: dict[str, object],
        exc_info: BaseException | None = None,
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, Line(event, {**self._fields, **fields}), exc_info=exc_info)


def silent_unless_configured(*names: str) -> None:
    """Keep what these loggers say from standard error while nobody has configured logging."""
    for name in names:
        logging.getLogger(name).addHandler(logging.NullHandler())


silent_unless_configured("penstock")
