"""The parts of README.md that are made from the code.

``python -m tests.docs.sections`` writes them anew; `test_generated` fails where they lag behind.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from penstock.schemas.catalogue import Catalogue
from penstock.worker.cli import main
from penstock.worker.commands import events as catalogue_view
from penstock.worker.pipeline.decode import REASONS
from penstock.worker.pipeline.metrics import FAMILIES
from penstock.worker.settings import text as config_text

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def commands() -> str:
    rows = [(f"`penstock {name}`", about) for name, about in _commands(main)]
    return _table(("command", "what it does"), rows)


def _commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, (command.help or "").partition("\n")[0]


def events() -> str:
    return catalogue_view.markdown(Catalogue.load())


def metrics() -> str:
    rows = [
        (f"`{f.name}`", f.kind.__name__.lower(), ", ".join(f.labels), f.about) for f in FAMILIES
    ]
    return _table(("metric", "kind", "labels", "meaning"), rows)


def reasons() -> str:
    return _table(("reason", "meaning"), [(f"`{name}`", about) for name, about in REASONS.items()])


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [titles, ("---",) * len(titles), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


SECTIONS: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "events": events,
    "settings": config_text.markdown,
    "metrics": metrics,
    "reasons": reasons,
}


def marked(name: str) -> re.Pattern[str]:
    """A section: its marker, what it holds, and the marker of its end."""
    return re.compile(rf"(<!-- {name}: made from the code -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def refresh() -> None:
    """Write every section anew."""
    text = README.read_text("utf-8")
    for name, make in SECTIONS.items():
        before, begin, _, end, after = marked(name).split(text)
        text = f"{before}{begin}\n{make()}\n{end}{after}"
    README.write_text(text, "utf-8")


if __name__ == "__main__":
    refresh()
