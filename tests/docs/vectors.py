"""The test vectors of docs/any-language.md: what a program in another language must come to."""

import json
from collections.abc import Mapping
from typing import Any

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.identity import entity_uuid, escape, event_uuid, kv_key
from penstock.worker.commands.event_examples import bus_subject, example_of

TEXTS = ("t-1", "a b", "a.b", "ü.😀", "*", ">", "=2E", "_x", "A_b-9", "\u2028", "100%")
UUID = "2F9471CB-57CC-562E-8F8B-9E6AAD260461"
CATALOGUE = Catalogue.load()


def vectors() -> Mapping[str, Any]:
    """Inputs and what becomes of them."""
    sources = [("/agents/a-7", "e-1"), ("/agents/a-8", "e-1"), ("/ü", "a\nb"), ("/x", UUID)]
    states = [("a-7", "cursor"), ("a-7", None), (UUID, "_hidden"), ("ü b", "a.b/ü")]
    kinds = [("agent", "a-7"), ("task", "a-7"), ("agent", "ü b"), ("agent", UUID)]
    types = ("tasks.updated", "agents.state_set")
    return {
        "tokens": [{"text": text, "token": escape(text)} for text in TEXTS],
        "subjects": [
            {
                "type": name,
                "subject": text,
                "bus": bus_subject(CATALOGUE.types[name], {"subject": text}),
            }
            for name, text in zip(types, TEXTS[1:3], strict=True)
        ],
        "entities": [{"kind": k, "id": t, "key": entity_uuid(k, t)} for k, t in kinds],
        "events": [{"source": s, "id": t, "key": event_uuid(s, t)} for s, t in sources],
        "states": [
            {"agent": agent, "state_key": key, "key": kv_key(entity_uuid("agent", agent), key)}
            for agent, key in states
        ],
    }


SHOWN = ("agents.state_set", "tasks.created", "messages.sent", "channels.defined", "votes.opened")
"""One example a domain."""


def examples() -> str:
    """An event of each domain, with the subject that it is sent to."""
    parts = []
    for kind in map(CATALOGUE.types.__getitem__, SHOWN):
        event = example_of(kind)
        text = json.dumps(event, indent=2, ensure_ascii=False)
        parts.append(f"On `{bus_subject(kind, event)}`:\n\n```json\n{text}\n```\n")
    return "\n".join(parts)


def as_file() -> str:
    """The text of the file of vectors."""
    return json.dumps(vectors(), indent=2, ensure_ascii=False) + "\n"
