"""README says what the code says."""

import pytest

from tests.docs.sections import README, SECTIONS, marked


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_equals_the_code(name: str) -> None:
    found = marked(name).findall(README.read_text("utf-8"))
    assert len(found) == 1, f"README.md needs one section {name!r}"
    assert found[0][1].strip() == SECTIONS[name]().strip(), (
        f"the section {name!r} of README.md lags behind: run `python -m tests.docs.sections`"
    )
