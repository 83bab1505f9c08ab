"""How a field of the `Settings` struct declares one setting."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from penstock.worker.settings.kinds import Kind, choice, truth
from penstock.worker.settings.sections import LISTS_ALL, Commands, Section


class _Secret:
    """Marks a setting that is never shown, and that a file ``<key>_file`` may hold."""


SECRET = _Secret()


class Setting(msgspec.Struct, frozen=True):
    """One setting, as the struct declares it."""

    key: str
    kind: Kind
    section: Section
    commands: Commands
    default: Any
    about: str
    secret: bool

    @property
    def default_text(self) -> str:
        """The default as an operator would write it; empty if there is none."""
        return "" if self.default is None else self.kind.text(self.default)

    def shown_by(self, command: str) -> bool:
        """True if the help of ``command`` shows it."""
        return command == LISTS_ALL or command in self.commands


def declared(struct: type[msgspec.Struct]) -> Iterator[Setting]:
    """The settings that a struct declares, annotated in the way of `settings.keys.Settings`."""
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        kind, *marks = get_args(hints[field.name])
        yield Setting(
            key=field.name,
            kind=_marked(Kind, marks) or _kind_of(kind),
            section=_marked(Section, marks),
            commands=_marked(Commands, marks),
            default=field.default,
            about=marks[-1],
            secret=SECRET in marks,
        )


def _marked(mark: type, marks: list[Any]) -> Any:
    return next((found for found in marks if isinstance(found, mark)), None)


def _kind_of(declared: Any) -> Kind:
    """The kind of a type that itself says which values are possible."""
    return choice(*get_args(declared)) if get_origin(declared) is Literal else truth()
