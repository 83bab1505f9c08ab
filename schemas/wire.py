"""The struct of an event as it travels: its rules, without its key."""

from collections.abc import Callable, Collection
from typing import Any, get_type_hints

import msgspec
from msgspec import NODEFAULT, Raw

from penstock.schemas.event import EventData
from penstock.schemas.fields import is_json, struct_fields
from penstock.schemas.rows import MappingError

_NULL = Raw(b"null")


def wire_struct(
    struct: type[EventData], key: str, only: Collection[str] | None = None
) -> type[msgspec.Struct]:
    """The struct as it travels: without the key field, JSON documents left undecoded; with ``only``
    without the other fields and its rules too.
    """
    hints = get_type_hints(struct, include_extras=True)
    fields: list[Any] = []
    for field in struct_fields(struct):
        if field.name == key or (only is not None and field.name not in only):
            continue
        annotation = Raw if is_json(field.type) else hints[field.name]
        if field.default is not NODEFAULT:
            default = _NULL if annotation is Raw else field.default
            fields.append((field.name, annotation, default))
        elif field.default_factory is not NODEFAULT:
            fields.append(
                (field.name, annotation, msgspec.field(default_factory=field.default_factory))
            )
        else:
            fields.append((field.name, annotation))
    found = rule(struct) if only is None else None
    return msgspec.defstruct(
        f"{struct.__name__}Data",
        fields,
        frozen=True,
        kw_only=True,
        module=struct.__module__,
        namespace={"__post_init__": found} if found else None,
    )


def strict(wire: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The same, but a field that it does not have is an error."""
    return msgspec.defstruct(
        wire.__name__, [], bases=(wire,), frozen=True, kw_only=True, forbid_unknown_fields=True
    )


def rule(struct: type[EventData]) -> Callable[[Any], None] | None:
    """What the struct checks beyond the types of its fields: its ``__post_init__``, if any."""
    found: Callable[[Any], None] | None = getattr(struct, "__post_init__", None)
    return found


def check_rule(event_type: str, struct: type[EventData], key: str) -> None:
    """Raise MappingError for a rule that would refuse every event: those that come have no key, and
    are of a struct of their own.
    """
    code = getattr(rule(struct), "__code__", None)
    if code is None:
        return
    if key in code.co_names:
        raise MappingError(
            f"{event_type}: __post_init__ uses {key!r}, which travels as the subject and not in "
            "the data; leave it out of the rule"
        )
    if "__class__" in code.co_freevars:
        raise MappingError(
            f"{event_type}: __post_init__ uses super(); call a function that checks both"
        )
    methods = {n for n in code.co_names if n not in struct.__struct_fields__ and hasattr(struct, n)}
    if methods:
        raise MappingError(
            f"{event_type}: __post_init__ uses {', '.join(sorted(methods))} of the struct, which "
            "does not travel; make it a function of the module"
        )
