"""docs/sources.md: each table, view and function of the source documents, and where it is now."""

from collections.abc import Mapping

from tests.docs.places import Places, lines, shown, table
from tests.docs.schema import Schema

LIST = "sources.txt"
DOCUMENTS: Mapping[str, str] = {
    "000": "AI Agent Orchestrator, database schema documentation",
    "001": "Database schema, chapter 03",
    "002": "Database schema implementation guide",
    "003": "PostgreSQL implementation",
    "004": "AutoSDLC, database schema design",
}


def page(schema: Schema) -> str:
    """The generated part of the page: a table a document."""
    places = Places(schema)
    parts = []
    for number, title in DOCUMENTS.items():
        rows = []
        for line in lines(LIST):
            document, kind, name = line.head.split(" ")
            if document == number:
                where = shown([places.find(place) for place in line.places])
                view = view_of(name)
                rows.append(
                    (f"`{name}`", kind, where, f"`{view}`" if view in schema.tables else "")
                )
        titles = ("there", "what", "here", "for old queries")
        parts.append(f"## {number}: {title}\n\n{table(titles, rows)}")
    return "\n".join(parts)


def view_of(name: str) -> str:
    """The view that gives a table or view of a document its name back."""
    return f"compat.{name.replace('.', '_')}"
