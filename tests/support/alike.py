"""Decoding every form of mutated events, and comparing what comes of them."""

from collections import Counter
from typing import Any

import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.plan import make_plan
from penstock.worker.pipeline.ports import DeadLetter
from tests.support.encodings import forms, rows
from tests.support.mutations import Mutant, mutants

_SHOWN = 20


class Census(msgspec.Struct):
    """What came of mutants: ``different`` describes those that two forms disagree about."""

    forms: int = 0
    outcomes: Counter[str] = msgspec.field(default_factory=Counter)
    different: list[str] = []


def census(catalogue: Catalogue, count: int, seed: int, max_bytes: int = 1 << 16) -> Census:
    """Decode ``count`` mutants in all forms."""
    window = Window(catalogue, {}, past="unlimited")
    decoder = Decoder(catalogue, window, max_bytes=max_bytes)
    found = Census()
    for mutant in mutants(catalogue, count, seed):
        sent = dict(forms(mutant.subject, mutant.attributes, mutant.data))
        decoded = decoder.decode(list(sent.values()))
        seen = {name: _meaning(one) for name, one in zip(sent, decoded, strict=True)}
        first = seen["nats plain"]
        found.forms += len(seen)
        found.outcomes[first if isinstance(first, str) else "stored"] += 1
        other = {name: one for name, one in seen.items() if one != first}
        if other and len(found.different) < _SHOWN:
            found.different.append(_described(mutant, first, other))
    return found


def _meaning(one: Event | DeadLetter) -> Any:
    if isinstance(one, DeadLetter):
        return one.reason
    plan = make_plan([one])
    history = [rows(record) for part in plan.history for record in part.records]
    states = [(state.table, rows(row)) for state in plan.states for row in state.rows]
    return (one.guard, one.source, one.actor, one.project, history, states, plan.stubs)


def _described(mutant: Mutant, first: Any, other: dict[str, Any]) -> str:
    shown = {name: str(one)[:60] for name, one in list(other.items())[:3]}
    return f"{mutant.change} {mutant.attributes} {mutant.data[:200]!r}: {str(first)[:60]} {shown}"
