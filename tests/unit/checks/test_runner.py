"""What counts as wrong, and what as mended."""

from collections.abc import AsyncGenerator, Collection, Iterator, Sequence

import pytest

from penstock.worker.checks.check import Suspect, Suspects
from penstock.worker.checks.runner import examine
from penstock.worker.errors import SinkUnavailable
from penstock.worker.finding import Finding, Verdict


def suspect(name: str, trace: str = "", *, mendable: bool = False, lost: bool = False) -> Suspect:
    return Suspect(name, "are wrong", "mend them", trace, mendable, lost)


class Looks:
    """Sees one list of suspects after the other."""

    name = "things"

    def __init__(self, *looks: Sequence[Suspect], steady: bool = False) -> None:
        self.steady = steady
        self.lag = 0.0
        self.mended: list[str] = []
        self._looks: Iterator[Sequence[Suspect]] = iter(looks)

    async def look(self, among: Collection[str] | None) -> AsyncGenerator[Suspect]:
        for one in next(self._looks):
            if among is None or one.name in among:
                yield one

    async def mend(self, wrong: Suspects) -> None:
        self.mended += wrong


async def verdicts(check: Looks, *, repair: bool = False) -> dict[Verdict, tuple[str, ...]]:
    found: list[Finding] = await examine(check, repair=repair, pause=0)
    return {finding.verdict: finding.examples for finding in found}


async def test_only_what_is_the_same_twice_is_wrong() -> None:
    first = [suspect("in flight", "1"), suspect("moves", "1"), suspect("stays", "1")]
    again = [suspect("moves", "2"), suspect("stays", "1"), suspect("new", "1")]
    assert await verdicts(Looks(first, again)) == {Verdict.BAD: ("stays",)}


async def test_one_moment_is_looked_at_once() -> None:
    assert await verdicts(Looks([suspect("a")], steady=True)) == {Verdict.BAD: ("a",)}


async def test_nothing_wrong_is_said_too() -> None:
    (good,) = await examine(Looks([]), repair=True, pause=0)
    assert (good.verdict, good.check) == (Verdict.GOOD, "things")


@pytest.mark.parametrize("repair", [True, False])
async def test_mended_is_what_is_no_longer_seen(*, repair: bool) -> None:
    wrong = [suspect("a", mendable=True), suspect("b", mendable=True)]
    check = Looks(wrong, [wrong[1]], steady=True)
    found = await verdicts(check, repair=repair)
    if repair:
        assert check.mended == ["a", "b"]
        assert found == {Verdict.MENDED: ("a",), Verdict.BAD: ("b",)}
    else:
        assert check.mended == []
        assert found == {Verdict.BAD: ("a", "b")}


async def test_what_is_lost_is_bad_though_mending_takes_note_of_it() -> None:
    gone = suspect("a", mendable=True, lost=True)
    check = Looks([gone], [], steady=True)
    assert await verdicts(check, repair=True) == {Verdict.BAD: ("a",)}
    assert check.mended == ["a"]


async def test_what_only_others_can_mend_is_not_tried() -> None:
    check = Looks([suspect("a")], steady=True)
    assert await verdicts(check, repair=True) == {Verdict.BAD: ("a",)}
    assert check.mended == []


async def test_each_kind_is_said_once_with_a_few_examples() -> None:
    many = [suspect(f"{n:02}") for n in range(40)]
    (found,) = await examine(Looks(many, steady=True), repair=False, pause=0)
    assert (found.count, found.examples) == (40, ("00", "01", "02", "03", "04"))
    assert found.text == "things: 40 are wrong: 00, 01, 02, 03, 04, ..."


class Hindered(Looks):
    """Cannot mend now."""

    async def mend(self, wrong: Suspects) -> None:  # noqa: ARG002  (it gets no further)
        raise SinkUnavailable("another process is mending things; wait for it")


async def test_what_cannot_be_mended_now_keeps_no_other_check_from_being_run() -> None:
    check = Hindered([suspect("a", mendable=True)], steady=True)
    wrong, reason = await examine(check, repair=True, pause=0)
    assert (wrong.verdict, wrong.examples) == (Verdict.BAD, ("a",))
    assert reason.verdict is Verdict.BAD
    assert "another process is mending things" in reason.text
    assert "--repair again" in reason.remedy
