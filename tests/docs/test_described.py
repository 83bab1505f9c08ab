"""The pages that describe the database say what it is."""

from penstock.schemas.catalogue import Catalogue
from tests.docs.described import SECTIONS
from tests.docs.gaps import OTHERWISE, compared, decisions_named
from tests.docs.schema import described
from tests.docs.sections import ROOT, marked


async def test_every_page_equals_the_database(database: str) -> None:
    schema = await described(database)
    for name, (page, make) in SECTIONS.items():
        found = marked(name).findall(page.read_text("utf-8"))
        where = page.relative_to(ROOT)
        assert len(found) == 1, f"{where} needs one section {name!r}"
        assert found[0][1].strip() == make(schema).strip(), (
            f"the section {name!r} of {where} lags behind: run `python -m tests.docs.described`"
        )


async def test_what_was_decided_otherwise_has_its_decision(database: str) -> None:
    gaps = compared(await described(database), Catalogue.load())
    print("\n".join(gaps.missing))  # noqa: T201  (what is still to be built)
    used = {name for name in OTHERWISE if any(gap.startswith(name) for gap in gaps.otherwise)}
    assert used == set(OTHERWISE), "no gap needs this reason any more"
    for number in decisions_named(OTHERWISE):
        assert list((ROOT / "docs" / "decisions").glob(f"{number:04}-*.md")), number
    known = [*gaps.missing, *gaps.otherwise]
    assert "event ideas.joined" not in known
    assert gaps.found > 60
