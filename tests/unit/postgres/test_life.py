"""What is due for a partition, by where it is and what its policy says."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from penstock.worker.postgres.life import Action, Ages, Life, Place, due, upcoming

NOW = datetime(2026, 11, 26, tzinfo=UTC)
DAY = timedelta(days=1)
NONE: Ages = {}
DETACH, FINISH, PUT_AWAY, EXPORT, DROP = Action


def life(**given: Any) -> Life:
    found = Life(
        schema="agents",
        table="heartbeat",
        name="heartbeat_y2026m11d01",
        lower=NOW - 25 * DAY,
        upper=NOW - 24 * DAY,
        place=Place.ATTACHED,
        relation="agents.heartbeat_y2026m11d01",
        rows=1,
        bytes=1,
        archive=False,
        export=False,
        exported_at=None,
        file=None,
        expires_at=NOW,
        drops_at=NOW - 24 * DAY,
    )
    return msgspec.structs.replace(found, **given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [DETACH, PUT_AWAY, DROP]),
        ({"expires_at": NOW + DAY}, []),
        ({"expires_at": None}, []),
        ({"export": True}, [DETACH, PUT_AWAY, EXPORT, DROP]),
        ({"drops_at": None}, [DETACH, PUT_AWAY]),
        ({"drops_at": NOW + DAY, "export": True}, [DETACH, PUT_AWAY, EXPORT]),
        # It was exported and came back since: rows may have been added.
        ({"export": True, "exported_at": NOW}, [DETACH, PUT_AWAY, EXPORT, DROP]),
        ({"place": Place.DETACHING, "expires_at": None}, [FINISH, PUT_AWAY, DROP]),
        ({"place": Place.DETACHED}, [PUT_AWAY, DROP]),
        ({"place": Place.ARCHIVED, "export": True}, [EXPORT, DROP]),
        ({"place": Place.ARCHIVED, "export": True, "exported_at": NOW}, [DROP]),
        ({"place": Place.ARCHIVED, "drops_at": None}, []),
        ({"place": Place.GONE, "export": True}, []),
    ],
)
def test_steps_follow_from_place_and_policy(given: dict[str, Any], expected: list[Action]) -> None:
    assert list(due(life(**given), NOW, NONE)) == expected


def test_what_a_stream_still_has_stays_whatever_the_policy_says() -> None:
    ages = {"agents.heartbeat": 30 * DAY}
    assert list(due(life(), NOW, ages)) == []
    assert upcoming(life(), NOW, ages) == (DETACH, NOW + 6 * DAY)
    assert list(due(life(), NOW + 6 * DAY, ages))
    assert next(due(life(), NOW, ages, asked=True)) is DETACH, "unless a person asks for it"


def test_what_happens_next_and_when() -> None:
    assert upcoming(life(), NOW, NONE) == (DETACH, NOW)
    assert upcoming(life(expires_at=NOW + DAY), NOW, NONE) == (DETACH, NOW + DAY)
    archived = life(place=Place.ARCHIVED, drops_at=NOW + DAY)
    assert upcoming(archived, NOW, NONE) == (DROP, NOW + DAY)
    for never in (life(expires_at=None), life(upper=None), life(place=Place.GONE, drops_at=None)):
        assert upcoming(never, NOW, NONE) is None
