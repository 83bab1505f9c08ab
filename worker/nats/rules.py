"""Which differences of a stream or consumer matter, and which can be corrected in place.

Every setting by which an event can be lost before it is read, or go elsewhere, has a rule that says
so. Pure: configurations in, differences out.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from penstock.worker.difference import Difference


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """How one setting is compared. ``differs`` and ``safe`` take the wanted and the found value.

    ``remedy`` is for a setting that cannot be changed in place; ``default`` is the value of an
    absent one. While the object has the setting ``blocked_by``, the server refuses the change.
    """

    setting: str
    remedy: str
    default: Any = None
    differs: Callable[[Any, Any], bool] = lambda wanted, found: bool(wanted != found)
    safe: Callable[[Any, Any], bool] = lambda _wanted, _found: False
    merge: Callable[[Any, Any], Any] = lambda wanted, _found: wanted
    blocked_by: tuple[str, Any] | None = None
    fatal: bool = False


def _always(_wanted: Any, _found: Any) -> bool:
    return True


def _limit(value: Any) -> float:
    return value if value and value > 0 else float("inf")


def _grows(wanted: Any, found: Any) -> bool:
    return _limit(wanted) > _limit(found)


def _limits_differ(wanted: Any, found: Any) -> bool:
    return _limit(wanted) != _limit(found)


def _lacks(wanted: Sequence[str], found: Sequence[str] | None) -> bool:
    return not set(wanted) <= set(found or ())


def _added(wanted: Sequence[str], found: Sequence[str] | None) -> list[str]:
    return [*(found or ()), *(subject for subject in wanted if subject not in (found or ()))]


def _wants_on(wanted: Any, found: Any) -> bool:
    return bool(wanted) and not found


def _set(_wanted: Any, found: Any) -> bool:
    return bool(found)


def _to_come(_wanted: Any, found: Any) -> bool:
    return bool(found) and datetime.fromisoformat(found) > datetime.now(UTC)


_BY_HAND = "change it with `nats stream edit`"
_SHRINK = f"lowering it drops messages at once; if you want that, {_BY_HAND}"
_REMAKE = "it cannot be changed; drain it, then create a new one under another name"
_CONSUMER_REMAKE = "stop the workers, delete the consumer, run `penstock provision`; redelivers all"


def _limits(*settings: str) -> tuple[Rule, ...]:
    return tuple(
        Rule(setting=name, remedy=_SHRINK, differs=_limits_differ, safe=_grows) for name in settings
    )


STREAM_RULES: tuple[Rule, ...] = (
    Rule(setting="subjects", remedy="", differs=_lacks, safe=_always, merge=_added, fatal=True),
    Rule(setting="storage", remedy=f"events in memory are lost with the server; {_REMAKE}"),
    Rule(
        setting="retention",
        remedy="`interest` drops what comes while nobody is subscribed, and a replay needs every "
        f"message; {_REMAKE}",
    ),
    Rule(setting="num_replicas", remedy=_BY_HAND, default=1),
    Rule(
        setting="discard",
        remedy="with `old` a full stream drops events that nobody has read, with `new` it refuses "
        f"more and the publisher learns of it; {_BY_HAND}",
    ),
    *_limits("max_age", "max_bytes", "max_msgs", "max_msgs_per_subject", "max_msg_size"),
    Rule(setting="allow_direct", remedy="", differs=_wants_on, safe=_always),
    Rule(
        setting="allow_atomic",
        remedy="a stream with asynchronous persistence accepts no atomic batches",
        differs=_wants_on,
        safe=_always,
        blocked_by=("persist_mode", "async"),
    ),
    Rule(setting="deny_delete", remedy="", differs=_wants_on, safe=_always),
    Rule(setting="deny_purge", remedy="", differs=_wants_on, safe=_always),
    Rule(
        setting="persist_mode",
        remedy=f"events would be confirmed before they are on disk; {_REMAKE}",
        differs=lambda wanted, found: found == "async" and wanted != "async",
    ),
    Rule(
        setting="no_ack",
        remedy=f"publishers cannot learn whether an event was stored; {_BY_HAND}",
        differs=_set,
    ),
    Rule(setting="sealed", remedy=f"it takes no more messages; {_REMAKE}", differs=_set),
    Rule(
        setting="mirror",
        remedy=f"a copy of another stream takes no events; {_REMAKE}",
        differs=_set,
        fatal=True,
    ),
    Rule(
        setting="sources",
        remedy=f"what other streams hold comes in as well; if that is not meant, {_BY_HAND}",
        differs=_set,
    ),
    Rule(
        setting="subject_transform",
        remedy="events are stored under other subjects than they were sent to, and become dead "
        f"letters; {_BY_HAND}",
        differs=_set,
    ),
    Rule(
        setting="republish",
        remedy="every event is published once more, under another subject, which another stream "
        f"may take for a second event; {_BY_HAND}",
        differs=_set,
    ),
    Rule(
        setting="allow_rollup_hdrs",
        remedy="with a header any publisher can delete what nobody has read; " + _BY_HAND,
        differs=_set,
    ),
    Rule(
        setting="allow_msg_ttl",
        remedy="a publisher can let an event expire before it is read; " + _REMAKE,
        differs=_set,
    ),
    Rule(
        setting="subject_delete_marker_ttl",
        remedy=f"markers of the server stand among the events, as dead letters; {_BY_HAND}",
        differs=_set,
    ),
    Rule(
        setting="allow_msg_schedules",
        remedy="a publisher can have an event delivered later, or elsewhere; " + _REMAKE,
        differs=_set,
    ),
    Rule(
        setting="allow_msg_counter",
        remedy=f"it takes numbers to add up and no events; {_REMAKE}",
        differs=_set,
        fatal=True,
    ),
)

CONSUMER_RULES: tuple[Rule, ...] = (
    Rule(setting="ack_policy", remedy=_CONSUMER_REMAKE, fatal=True),
    Rule(setting="deliver_subject", remedy=_CONSUMER_REMAKE, differs=_set, fatal=True),
    Rule(setting="priority_groups", remedy=_CONSUMER_REMAKE, differs=_set, fatal=True),
    Rule(setting="headers_only", remedy=_CONSUMER_REMAKE, differs=_set, fatal=True),
    Rule(
        setting="deliver_policy",
        remedy=f"older messages were skipped; for all of them {_CONSUMER_REMAKE}",
    ),
    Rule(setting="filter_subject", remedy=f"other events are skipped; {_CONSUMER_REMAKE}"),
    Rule(setting="filter_subjects", remedy=f"other events are skipped; {_CONSUMER_REMAKE}"),
    Rule(setting="max_deliver", remedy="", default=-1, safe=_always),
    Rule(setting="ack_wait", remedy="", safe=_always),
    Rule(setting="max_ack_pending", remedy="", safe=_always),
    Rule(
        setting="inactive_threshold",
        remedy="the server deletes an idle consumer; remove this with `nats consumer edit`",
        differs=_set,
    ),
    Rule(
        setting="pause_until",
        remedy="it delivers nothing until then; `nats consumer resume`",
        differs=_to_come,
    ),
    Rule(setting="replay_policy", remedy=f"it delivers slowly; {_CONSUMER_REMAKE}"),
    Rule(
        setting="mem_storage",
        remedy=f"the server forgets it when it restarts; {_CONSUMER_REMAKE}",
        differs=_set,
    ),
    *_limits("max_batch", "max_bytes", "max_expires"),
)


BUCKET_RULES: tuple[Rule, ...] = (
    *(
        rule
        for rule in STREAM_RULES
        if rule.setting
        in {
            "subjects",
            "storage",
            "num_replicas",
            "max_age",
            "max_bytes",
            "max_msgs",
            "max_msgs_per_subject",
            "max_msg_size",
            "allow_direct",
            "allow_atomic",
            "sealed",
            "mirror",
            "subject_transform",
        }
    ),
    Rule(
        setting="persist_mode",
        remedy="delete the bucket; the worker recreates and refills it",
        differs=lambda wanted, found: wanted == "async" and found != "async",
    ),
    Rule(setting="allow_rollup_hdrs", remedy="", differs=_wants_on, safe=_always),
)
"""PostgreSQL can refill a bucket, so less of it matters."""


def compare(
    what: str, wanted: Mapping[str, Any], present: Mapping[str, Any], rules: Sequence[Rule]
) -> tuple[list[Difference], dict[str, Any] | None]:
    """The differences, and the present configuration with the safe ones corrected (None if there
    are none).

    Settings without a rule stay as they are. The server changes nothing of a sealed stream or a
    mirror.
    """
    fixed = bool(present.get("sealed") or present.get("mirror"))
    differences: list[Difference] = []
    changed: dict[str, Any] = {}
    for rule in rules:
        want = wanted.get(rule.setting, rule.default)
        have = present.get(rule.setting, rule.default)
        if not rule.differs(want, have):
            continue
        blocked = fixed or (
            rule.blocked_by is not None and present.get(rule.blocked_by[0]) == (rule.blocked_by[1])
        )
        safe = rule.safe(want, have) and not blocked
        if safe:
            changed[rule.setting] = rule.merge(want, have)
        differences.append(
            Difference(
                what=f"{what}: {rule.setting}",
                found=shown(rule.setting, have),
                wanted=shown(rule.setting, want),
                remedy="`penstock provision` changes it" if safe else rule.remedy or _REMAKE,
                safe=safe,
                fatal=rule.fatal,
            )
        )
    return differences, ({**present, **changed} if changed else None)


_NANOSECONDS = 1_000_000_000


def nanoseconds(seconds: float) -> int:
    """A time in the server's unit."""
    return round(seconds * _NANOSECONDS)


def shown(setting: str, value: Any) -> str:
    """A value for people: times in seconds, lists with commas, and "unlimited"."""
    if setting in {"max_age", "ack_wait", "max_expires"} and value:
        return f"{value / _NANOSECONDS:g} s"
    if setting.startswith("max_") and not (value and value > 0):
        return "unlimited"
    if isinstance(value, dict):
        return " to ".join(str(value[name]) for name in ("src", "name", "dest") if value.get(name))
    if isinstance(value, list):
        return ", ".join(shown("", item) for item in value)
    return str(value if value is not None else "unset")
