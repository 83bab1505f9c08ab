"""What the fields of a struct hold, as msgspec sees them."""

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import msgspec
from msgspec import inspect


def extra(kind: inspect.Type, name: str) -> Any:
    """What a type's Meta says about ``name``, also inside ``T | None``."""
    if isinstance(kind, inspect.Metadata):
        return (kind.extra or {}).get(name)
    if isinstance(kind, inspect.UnionType):
        return next((found for part in kind.types if (found := extra(part, name))), None)
    return None


def is_json(kind: inspect.Type) -> bool:
    """Whether the field holds any JSON."""
    return bool(extra(kind, "json"))


def is_optional(kind: inspect.Type) -> bool:
    """Whether the field may be None."""
    return isinstance(kind, inspect.UnionType) and kind.includes_none


def is_container(kind: inspect.Type) -> bool:
    """Whether the field holds a list, a mapping or a struct."""
    if isinstance(kind, inspect.Metadata):
        return is_container(kind.type)
    if isinstance(kind, inspect.UnionType):
        return any(is_container(part) for part in kind.types)
    return isinstance(kind, inspect.CollectionType | inspect.DictType | inspect.StructType)


def element(kind: inspect.Type) -> inspect.Type | None:
    """The type of a list's elements; None if it is no list."""
    if isinstance(kind, inspect.Metadata):
        return element(kind.type)
    if isinstance(kind, inspect.UnionType):
        return next((found for part in kind.types if (found := element(part))), None)
    return kind.item_type if isinstance(kind, inspect.CollectionType) else None


def members(kind: inspect.Type) -> dict[str, inspect.Type]:
    """The fields of a type that is a struct; none if it is another one."""
    if isinstance(kind, inspect.Metadata):
        return members(kind.type)
    if not isinstance(kind, inspect.StructType):
        return {}
    return {field.name: field.type for field in kind.fields}


_KINDS: Mapping[type[inspect.Type], str] = {
    inspect.StrType: "text",
    inspect.EnumType: "text",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.DecimalType: "decimal",
    inspect.BoolType: "boolean",
    inspect.DateTimeType: "moment",
    inspect.DateType: "day",
    inspect.BytesType: "bytes",
}


def value_kind(kind: inspect.Type) -> str | None:
    """What cells made of a field of this type are: ``id``, ``json``, ``text``, ``integer``,
    ``number``, ``decimal``, ``boolean``, ``moment``, ``day``, ``bytes``; None if they may be
    several things.
    """
    if is_json(kind) or is_container(kind):
        return "json"
    if extra(kind, "id") is not None:
        return "id"
    if isinstance(kind, inspect.Metadata):
        return value_kind(kind.type)
    if isinstance(kind, inspect.UnionType):
        parts = {value_kind(part) for part in kind.types if not isinstance(part, inspect.NoneType)}
        return parts.pop() if len(parts) == 1 else None
    return _KINDS.get(type(kind))


def labels(kind: inspect.Type) -> tuple[Any, ...]:
    """The values of an enumeration; None if it may be something else."""
    if isinstance(kind, inspect.Metadata):
        return labels(kind.type)
    if isinstance(kind, inspect.EnumType):
        return tuple(kind.cls)
    return (None,)


@cache
def struct_fields(struct: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    """The fields of a struct, as msgspec sees them."""
    return cast(inspect.StructType, inspect.type_info(struct)).fields


def field_types(struct: type[msgspec.Struct]) -> dict[str, inspect.Type]:
    """The type of every field of a struct."""
    return {field.name: field.type for field in struct_fields(struct)}


def free_fields(struct: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields that hold any JSON, stored as it was sent."""
    return tuple(name for name, kind in field_types(struct).items() if is_json(kind))


def floats(struct: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields that are floats, and containers, which may hold some."""
    return tuple(
        name
        for name, kind in field_types(struct).items()
        if is_container(kind) or "FloatType" in repr(kind)
    )


def moments(struct: type[msgspec.Struct], *, required: bool = False) -> tuple[str, ...]:
    """The fields that are times; with ``required`` those of them that may not be None."""
    return tuple(
        name
        for name, kind in field_types(struct).items()
        if is_moment(kind) and not (required and is_optional(kind))
    )


def is_moment(kind: inspect.Type) -> bool:
    """Whether the field is a time."""
    if isinstance(kind, inspect.Metadata):
        return is_moment(kind.type)
    if isinstance(kind, inspect.UnionType):
        return any(is_moment(part) for part in kind.types)
    return isinstance(kind, inspect.DateTimeType)
