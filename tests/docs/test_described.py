"""The pages that describe the database say what it is."""

from tests.docs.described import SECTIONS
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
