"""Which differences of a stream or consumer matter, and which can be corrected in place.

Pure: configurations in, differences out.
"""

from collections.abc import Callable, Mapping, Sequence
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


_BY_HAND = "change it with `nats stream edit`"
_SHRINK = f"lowering it drops messages at once; if you want that, {_BY_HAND}"
_REMAKE = "it cannot be changed; drain it, then create a new one under another name"
_CONSUMER_REMAKE = "stop the workers, delete the consumer, run `penstock provision`; redelivers all"

STREAM_RULES: tuple[Rule, ...] = (
    Rule(setting="subjects", remedy="", differs=_lacks, safe=_always, merge=_added, fatal=True),
    Rule(setting="storage", remedy=f"events in memory are lost with the server; {_REMAKE}"),
    Rule(setting="retention", remedy=f"a replay needs every message; {_REMAKE}"),
    Rule(setting="num_replicas", remedy=_BY_HAND, default=1),
    Rule(setting="discard", remedy=_BY_HAND),
    Rule(setting="max_age", remedy=_SHRINK, differs=_limits_differ, safe=_grows),
    Rule(setting="max_bytes", remedy=_SHRINK, differs=_limits_differ, safe=_grows),
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
)


BUCKET_RULES: tuple[Rule, ...] = (
    *(
        rule
        for rule in STREAM_RULES
        if rule.setting
        in {"subjects", "storage", "num_replicas", "max_bytes", "allow_direct", "allow_atomic"}
    ),
    Rule(
        setting="persist_mode",
        remedy="delete the bucket; the worker recreates and refills it",
        differs=lambda wanted, found: wanted == "async" and found != "async",
    ),
    Rule(setting="max_msgs_per_subject", remedy=_SHRINK, differs=_limits_differ, safe=_grows),
    Rule(setting="allow_rollup_hdrs", remedy="", differs=_wants_on, safe=_always),
)
"""PostgreSQL can refill a bucket, so less of it matters."""


def compare(
    what: str, wanted: Mapping[str, Any], present: Mapping[str, Any], rules: Sequence[Rule]
) -> tuple[list[Difference], dict[str, Any] | None]:
    """The differences, and the present configuration with the safe ones corrected (None if there
    are none).

    Settings without a rule stay as they are.
    """
    differences: list[Difference] = []
    changed: dict[str, Any] = {}
    for rule in rules:
        want = wanted.get(rule.setting, rule.default)
        have = present.get(rule.setting, rule.default)
        if not rule.differs(want, have):
            continue
        blocked = (
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
                remedy="`penstock provision` changes it" if safe else rule.remedy,
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
    if setting in {"max_age", "ack_wait"} and value:
        return f"{value / _NANOSECONDS:g} s"
    if setting.startswith("max_") and not (value and value > 0):
        return "unlimited"
    if isinstance(value, list):
        return ", ".join(value)
    return str(value if value is not None else "unset")
