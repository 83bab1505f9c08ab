"""Which checkpoints the newest ones do not need."""

from collections.abc import Sequence

from penstock.integrations.langgraph.documents import Stored


def superseded(found: Sequence[Stored]) -> list[Stored]:
    """Of the checkpoints of one thread, the newest first, those that can go: all but the newest of
    each namespace, and what that is made of.

    A channel that stores changes alone is made of the writes of all checkpoints back to the one
    that has its value.
    """
    by_name = {(one.namespace, one.checkpoint_id): one for one in found}
    kept = set[tuple[str, str]]()
    for namespace in {one.namespace for one in found}:
        newest = next(one for one in found if one.namespace == namespace)
        kept.add((namespace, newest.checkpoint_id))
        kept |= _needed(newest, by_name)
    return [one for name, one in by_name.items() if name not in kept]


def _needed(newest: Stored, by_name: dict[tuple[str, str], Stored]) -> set[tuple[str, str]]:
    missing = set((newest.metadata or {}).get("counters_since_delta_snapshot") or ())
    missing -= {value.channel for value in newest.values}
    needed = set[tuple[str, str]]()
    one: Stored | None = newest
    while missing and one is not None and one.parent_id is not None:
        one = by_name.get((one.namespace, one.parent_id))
        if one is not None and (one.namespace, one.checkpoint_id) not in needed:
            needed.add((one.namespace, one.checkpoint_id))
            missing -= {value.channel for value in one.values}
        else:
            break
    return needed
