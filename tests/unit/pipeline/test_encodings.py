"""The same event in every encoding and on both brokers: the same rows, or the same reason."""

import json
import subprocess
import sys

from penstock.schemas.catalogue import Catalogue
from tests.support.alike import census

_BOMB = """
import json, resource
from penstock.schemas.catalogue import Catalogue
from penstock.worker.pipeline.decode import Decoder, Window
from tests.support.encodings import forms

catalogue = Catalogue.load()
decoder = Decoder(catalogue, Window(catalogue, {}, past="unlimited"), max_bytes=1 << 20)
attributes = {"specversion": "1.0", "id": "1", "source": "/a", "type": "agents.state_set",
              "subject": "a-1", "time": "2026-03-01T12:00:00Z", "sequence": 1}
numbers = b"[" + b"1e131071," * 10_000 + b"1]"
data = b'{"state_key":"k","value":' + numbers + b"}"
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sent = [message for _, message in forms("agents.a-1.state_set", attributes, data)]
letters = decoder.decode(sent * 10)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(json.dumps([len(data), sorted({letter.reason for letter in letters}), grown]))
"""


def test_mutated_events_come_to_the_same_in_all_forms() -> None:
    found = census(Catalogue.load(), 1_500, seed=1)
    assert found.different == []
    assert found.forms > 15_000
    assert found.outcomes["stored"] > 450
    assert len(found.outcomes) > 9, found.outcomes


def test_ten_thousand_exploding_numbers_are_letters_and_take_no_memory() -> None:
    command = [sys.executable, "-c", _BOMB]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    size, reasons, megabytes = json.loads(done.stdout)
    print(f"{size} bytes, 100 deliveries: {megabytes:.1f} MB more at the peak")  # noqa: T201  (with -s)
    assert size > 90_000
    assert reasons == ["out_of_range"]
    assert megabytes < 50
