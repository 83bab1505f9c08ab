"""Why messages are rejected: the closed list of reasons."""

from collections.abc import Mapping

REASONS: Mapping[str, str] = {
    "too_large": "the body, or its data as JSON with all numbers written out, is larger than "
    "max_event_bytes",
    "not_json": "the body is not JSON, or not MessagePack where the content type says so",
    "bad_utf8": "the body, or a CloudEvents attribute in a header, is not UTF-8",
    "too_deep": "the body nests deeper than can be read",
    "not_cloudevent": "a CloudEvents attribute is missing or has the wrong type",
    "bad_content_type": "the content type is neither JSON nor MessagePack",
    "bad_id": "the id is missing, empty, longer than 255 characters or not text",
    "missing_time": "there is no time",
    "bad_time": "a time is no RFC 3339 time with an offset, has a second 60 (a leap second), or "
    "stands for no time where there must be one",
    "future": "a time lies further ahead than window_future",
    "out_of_window": "a time is older than the tables keep, or than window_past",
    "unknown_type": "no event of this type is in the catalogue",
    "subject_mismatch": "the bus subject is not domain.key.verb of the event's type and subject",
    "invalid_data": "the data does not fit the type",
    "out_of_range": "a number is larger or smaller than it may be, has more than 1,000 "
    "digits or an exponent above 999",
    "missing_sequence": "the type needs a sequence of 1 or more",
    "nul_character": "a text contains the character NUL, which PostgreSQL cannot store",
    "lone_surrogate": "a text contains half of a surrogate pair, which is no character",
    "period_detached": "retention has taken the partition of its time out of a table",
    "row_rejected": "PostgreSQL refuses the row",
    "crashes_workers": "max_crashes workers died while they handled it",
    "broker_gave_up": "RabbitMQ put it into penstock.dead, for the reason that the error names",
    "internal_error": "Penstock itself failed on this message; please report it",
}
"""Why a message became a dead letter: the closed list, with what each means."""


class Reject(Exception):
    """The message is wrong: ``reason`` is one of REASONS."""

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(error)
        self.reason = reason
        self.error = error
