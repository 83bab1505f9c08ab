"""The pages that are made from the migrated database.

``python -m tests.docs.described`` starts a PostgreSQL of its own and rewrites them;
`test_described` fails if they are out of date.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.docs import data_model, requirements, sources
from tests.docs.schema import Schema, described, migrated
from tests.docs.sections import ROOT, marked

DOCS = ROOT / "docs"

SECTIONS: Mapping[str, tuple[Path, Callable[[Schema], str]]] = {
    "tables": (DOCS / "data-model.md", data_model.page),
    "requirements": (DOCS / "requirements.md", requirements.page),
    "sources": (DOCS / "sources.md", sources.page),
}
"""Each section: the page that holds it, and what makes it."""


async def refresh() -> None:
    """Rewrite every section."""
    async with migrated() as dsn:
        schema = await described(dsn)
    for name, (page, make) in SECTIONS.items():
        before, begin, _, end, after = marked(name).split(page.read_text("utf-8"))
        page.write_text(f"{before}{begin}\n{make(schema)}\n{end}{after}", "utf-8")


if __name__ == "__main__":
    asyncio.run(refresh())
