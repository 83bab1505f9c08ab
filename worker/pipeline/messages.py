"""The messages of a batch as columns, which is how every step looks at them.

A column costs a fraction of as many attributes of objects. Of one message in thousands somebody
asks for more (it becomes a dead letter, it may be poison), and only of that one an object is made.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from operator import attrgetter
from typing import overload

from penstock.worker.pipeline.ports import Message


class Messages(Sequence[Message]):
    """Messages, and what they say by columns, which are parallel to them.

    These are objects already, and columns are made of them. A source that has columns subclasses
    this, and makes an object where somebody asks for one, for the same place the same one.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages

    def __len__(self) -> int:
        return len(self._messages)

    @overload
    def __getitem__(self, place: int) -> Message: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Message]: ...
    def __getitem__(self, place: int | slice) -> Message | Sequence[Message]:
        return self._messages[place]

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    @cached_property
    def subjects(self) -> Sequence[str]:
        """As `Message.subject`."""
        return list(map(attrgetter("subject"), self._messages))

    @cached_property
    def bodies(self) -> Sequence[bytes]:
        """As `Message.body`."""
        return list(map(attrgetter("body"), self._messages))

    @cached_property
    def deliveries(self) -> Sequence[int]:
        """As `Message.deliveries`."""
        return list(map(attrgetter("deliveries"), self._messages))

    @cached_property
    def offsets(self) -> Sequence[int | None]:
        """As `Message.offset`."""
        return list(map(attrgetter("offset"), self._messages))

    @cached_property
    def special(self) -> Collection[int]:
        """The places of those that are not `Message.plain`."""
        return {place for place, one in enumerate(self._messages) if not one.plain}

    @cached_property
    def doubtful(self) -> Collection[int]:
        """The places of those that are `Message.begun_before`."""
        return {place for place, one in enumerate(self._messages) if one.begun_before}


def as_columns(messages: Sequence[Message]) -> Messages:
    """The same messages; a list is one of objects."""
    return messages if isinstance(messages, Messages) else Messages(messages)
