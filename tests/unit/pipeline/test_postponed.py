"""What may wait waits for an interval at most, once, and within bounds."""

from penstock.worker.pipeline.ports import KvTouch
from penstock.worker.pipeline.postponed import Postponed, Touched

VIEW, COLUMNS = "agents.kv_status", ("agent_id",)
LAZY, STATUS = KvTouch(VIEW, COLUMNS, lazy=True), KvTouch(VIEW, COLUMNS)


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def keys(*names: str) -> list[tuple[str]]:
    return [(name,) for name in names]


def lazily(*names: str) -> Touched:
    return {LAZY: keys(*names)}


def test_a_key_is_due_within_an_interval_of_its_first_touch() -> None:
    clock = Clock()
    postponed = Postponed(5.0, clock=clock)
    assert postponed.put_off(lazily("a")) == {}
    clock.now += 3
    postponed.put_off(lazily("a", "b"))
    assert postponed.take(10) == {}
    clock.now += 2 - postponed.slice
    assert postponed.take(10) == {STATUS: keys("a")}
    clock.now += 3
    assert postponed.take(10) == {STATUS: keys("b")}
    assert postponed.take(10, early=True) == {}


def test_what_is_due_is_taken_in_parts_the_oldest_first() -> None:
    clock = Clock()
    postponed = Postponed(5.0, clock=clock)
    postponed.put_off(lazily("b", "a"))
    clock.now += 1
    postponed.put_off(lazily("c"))
    clock.now += 9
    assert postponed.take(2) == {STATUS: keys("b", "a")}
    assert postponed.take(2) == {STATUS: keys("c")}


def test_another_change_of_the_key_ends_its_waiting() -> None:
    postponed = Postponed(5.0)
    postponed.put_off(lazily("a", "b"))
    mixed = {STATUS: keys("a"), LAZY: keys("a", "c")}
    assert postponed.put_off(mixed) == {STATUS: set(keys("a"))}
    assert postponed.take(10, early=True) == {STATUS: keys("b", "c")}


def test_more_than_fit_go_at_once() -> None:
    postponed = Postponed(5.0, most=2)
    assert postponed.put_off(lazily("a", "b", "c")) == {STATUS: set(keys("c"))}
    assert postponed.put_off(lazily("a")) == {}
    assert len(postponed) == 2
    postponed.again({STATUS: keys("d")})
    assert len(postponed) == 2, "whatever comes back"


def test_what_failed_waits_again_and_what_was_never_put_off_does_not() -> None:
    postponed = Postponed(5.0)
    postponed.again({STATUS: keys("a")})
    assert len(postponed) == 0
    postponed.put_off(lazily("a"))
    taken = postponed.take(10, early=True)
    postponed.again(taken)
    assert postponed.take(10) == {}
    assert postponed.take(10, early=True) == taken
