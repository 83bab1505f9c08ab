"""What the decoder lets through is jsonb to PostgreSQL too, and never much larger than it was."""

import json

import asyncpg

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.ports import Message
from tests.support.encodings import on_nats
from tests.support.mutations import mutants

_LIMIT = 1 << 16
_WRITTEN = """
SELECT count(*) AS documents, max(length(document::jsonb::text) - length(document)) AS growth
FROM unnest($1::text[]) AS document
"""


def _message(subject: str, attributes: object, data: bytes) -> Message:
    head = json.dumps(attributes).encode()[:-1]
    return on_nats(subject, head + b',"data":' + data + b"}")


async def test_every_accepted_document_is_jsonb(postgres_dsn: str) -> None:
    catalogue = Catalogue.load()
    decoder = Decoder(catalogue, Window(catalogue, {}, past="unlimited"), max_bytes=_LIMIT)
    sent = [_message(*mutant[1:]) for mutant in mutants(catalogue, 5_000, seed=5)]
    events = [one for one in decoder.decode(sent) if isinstance(one, Event) and one.kind.keeps_raw]
    connection = await asyncpg.connect(postgres_dsn)
    try:
        found = await connection.fetchrow(_WRITTEN, [bytes(event.raw).decode() for event in events])
    finally:
        await connection.close()
    assert found is not None
    assert found["documents"] == len(events) > 1_000
    assert found["growth"] < _LIMIT
