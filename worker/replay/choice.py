"""Which messages of a stream are wanted, by their subjects alone: nothing is decoded for it."""

import binascii
import difflib
import re
from collections.abc import Iterator

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.fields import extra, field_types
from penstock.schemas.identity import entity_uuid
from penstock.worker.errors import PenstockError, SettingsError
from penstock.worker.replay.asked import Asked

_ESCAPED = re.compile(r"=[0-9A-F]{2}")


class Choice:
    """The filters of a replay. Raises SettingsError if one of them can match nothing."""

    def __init__(self, asked: Asked, catalogue: Catalogue) -> None:
        self._patterns = [re.compile(_expression(p)) for p in _patterns(asked, catalogue)]
        self._agent = None if asked.agent is None else entity_uuid("agent", asked.agent)
        self._by_agent = set(_about_agents(catalogue))
        self.subjects = tuple(_narrowest(asked, catalogue))

    @property
    def narrow(self) -> bool:
        """True if there is any filter."""
        return bool(self._patterns) or self._agent is not None

    def __call__(self, subject: str) -> bool:
        """Whether a message with this subject is wanted."""
        if not all(pattern.fullmatch(subject) for pattern in self._patterns):
            return False
        return self._agent is None or self._agent in self._agents_of(subject)

    def _agents_of(self, subject: str) -> Iterator[str]:
        domain, _, rest = subject.partition(".")
        token, _, verb = rest.partition(".")
        if (domain, verb) in self._by_agent:
            yield entity_uuid("agent", unescaped(token))


def unescaped(token: str) -> str:
    """The text that `penstock.schemas.identity.escape` made ``token`` of."""
    if not _ESCAPED.search(token):
        return token
    return binascii.a2b_qp(token).decode("utf-8", "replace")


def _patterns(asked: Asked, catalogue: Catalogue) -> Iterator[str]:
    if asked.subject is not None:
        yield asked.subject
    if asked.type is not None:
        kind = catalogue.types.get(asked.type)
        if kind is None:
            [near] = difflib.get_close_matches(asked.type, catalogue.types, n=1, cutoff=0)
            raise SettingsError(f"--type {asked.type}: no such type of event; did you mean {near}?")
        yield f"{kind.prefix}*{kind.suffix}"


def _narrowest(asked: Asked, catalogue: Catalogue) -> list[str]:
    """One pattern for the server; the rest is done here."""
    return list(_patterns(asked, catalogue))[-1:]


def _about_agents(catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    for kind in catalogue.types.values():
        if extra(field_types(kind.spec.struct)[kind.spec.key], "id") == "agent":
            yield kind.spec.domain, kind.spec.verb


def _expression(pattern: str) -> str:
    """A regular expression for a pattern of NATS: ``*`` is one token, a last ``>`` the rest."""
    tokens = pattern.split(".")
    if not all(tokens) or ">" in tokens[:-1]:
        raise SettingsError(
            f"--subject {pattern!r}: tokens between dots, * for any one, > at the end for the rest"
        )
    known = {"*": r"[^.]+", ">": r".+"}
    return r"\.".join(known.get(token, re.escape(token)) for token in tokens)


def check_tables(asked: Asked, catalogue: Catalogue) -> None:
    """Raise PenstockError for a table that is to be rebuilt and that no event writes."""
    for table in asked.rebuild:
        if table not in catalogue.keys:
            known = ", ".join(sorted(catalogue.keys))
            raise PenstockError(f"--rebuild {table}: no events state its rows; known are {known}")
