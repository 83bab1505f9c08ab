"""What others said, as JSON and PostgreSQL can hold it."""

from typing import Any

_LOST = "\ufffd"


def storable(text: str, nul: str = _LOST) -> str:
    """The text with ``nul`` for NUL, and with U+FFFD for halves of surrogate pairs, which are no
    characters: streams of models that are cut in the wrong place end with one.
    """
    text = text.replace("\0", nul)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def storable_document(found: Any) -> Any:
    """The same for all texts in a document."""
    match found:
        case str():
            return storable(found)
        case list() | tuple():
            return [storable_document(one) for one in found]
        case dict():
            return {_name(name): storable_document(value) for name, value in found.items()}
    return found


def _name(name: Any) -> Any:
    return storable(name) if isinstance(name, str) else name
