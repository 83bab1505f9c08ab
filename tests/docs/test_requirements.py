"""No demand of the documents is left out."""

import re

from tests.docs.sections import ROOT

TENS = (
    (1, 11), (20, 37), (40, 48), (50, 55), (60, 64), (70, 80), (85, 92), (100, 107), (110, 120),
    (125, 127), (130, 132), (140, 144), (150, 161), (165, 171), (175, 183), (185, 188), (190, 198),
    (200, 207), (210, 219), (225, 231), (240, 244),
)  # fmt: skip
"""The first and the last number of each group; those between two groups were never given."""


def test_the_page_has_every_number_once_and_says_where_it_is() -> None:
    page = (ROOT / "docs" / "requirements.md").read_text("utf-8")
    rows = re.findall(r"(?m)^\| R-(\d{3}) \| (.+) \| (.+) \| (.*) \|$", page)
    numbers = [int(number) for number, *_ in rows]
    assert numbers == [n for first, last in TENS for n in range(first, last + 1)]
    assert [number for number, *_, where in rows if not where.strip()] == []
    assert f"{len(rows)} demands:" in page
