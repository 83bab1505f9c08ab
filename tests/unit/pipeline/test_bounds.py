"""Which numbers may explode: asked of whole batches, so what only looks like one must not count."""

import pytest
from msgspec import Raw

from penstock.worker.pipeline.decode.bounds import may_explode


@pytest.mark.parametrize(
    "document",
    [
        b'{"id":"1111113e-1111-4222-8333-94445556667e"}',
        b'{"id":"4b1c8a3e-1111-4222-8333-9444555667e1"}',
        b'["3e1111x", "1e99999", 1.5e-123, -2E+200]',
        b"[1, 2.5, 100000000000000000000]",
    ],
)
def test_what_only_looks_like_it_does_not(document: bytes) -> None:
    assert not may_explode([Raw(document)] * 100)


@pytest.mark.parametrize(
    "number", ["1e1000", "1E+131071", "-2.5e-0001000", "9" * 1_001, "0." + "1" * 1_001]
)
@pytest.mark.parametrize("form", ["{}", "[{}]", '{{"n":{}}}', "[{},1]", '{{"n": {}\n}}'])
def test_one_among_many_is_seen(number: str, form: str) -> None:
    small = [Raw(b'{"n":1}')] * 99
    assert may_explode([*small, Raw(form.format(number).encode())])
    assert may_explode([Raw(form.format(number).encode()), *small])
