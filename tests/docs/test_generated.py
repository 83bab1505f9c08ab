"""The pages say what the code says."""

import pytest

from tests.docs.sections import ROOT, SECTIONS, marked
from tests.docs.vectors import as_file


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_equals_the_code(name: str) -> None:
    page, make = SECTIONS[name]
    found = marked(name).findall(page.read_text("utf-8"))
    where = page.relative_to(ROOT)
    assert len(found) == 1, f"{where} needs one section {name!r}"
    assert found[0][1].strip() == make().strip(), (
        f"the section {name!r} of {where} lags behind: run `python -m tests.docs.sections`"
    )


def test_the_vectors_equal_the_code() -> None:
    assert (ROOT / "docs" / "any-language.json").read_text("utf-8") == as_file()
