"""A worker with the delivered rights may send what Penstock concludes."""

import re
from pathlib import Path

from penstock.worker.outbox.told import TOLD

ROOT = Path(__file__).parents[3]


def test_all_that_functions_send_is_listed() -> None:
    text = "".join(path.read_text() for path in sorted((ROOT / "migrations").glob("*.up.sql")))
    calls = re.findall(r"(?:bus\.emit|monitoring\.announce)\((?:[^';]*?)'([a-z_]+\.[a-z_]+)'", text)
    assert set(calls) == set(TOLD)


def test_the_delivered_users_may_send_it() -> None:
    users = (ROOT / "deploy" / "nats" / "users.conf").read_text()
    worker = users.partition("WORKER = {")[2].partition("\n}")[0]
    for name in TOLD:
        assert f'"{name.replace(".", ".*.")}"' in worker
