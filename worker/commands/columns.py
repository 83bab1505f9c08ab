"""Plain columns, for a terminal or for tools that work line by line."""

from collections.abc import Iterable, Sequence


def columns(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Titles and rows, each column as wide as its longest cell."""
    lines = [titles, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (map(str.ljust, line, widths) for line in lines)
    return "".join(f"{'  '.join(cells).rstrip()}\n" for cells in padded)
