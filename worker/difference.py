"""What is not as planned on a broker or in a store, in words for whoever runs it."""

from typing import Self

import msgspec


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as planned, or was not.

    ``safe`` if it can be changed in place and loses nothing, ``fixed`` if that was done, ``fatal``
    if a worker cannot run with it, ``note`` if nobody has to do anything about it.
    """

    what: str
    found: str
    wanted: str
    remedy: str
    safe: bool = False
    fixed: bool = False
    fatal: bool = False
    missing: bool = False
    note: bool = False

    @classmethod
    def absence(cls, what: str, *, fixed: bool) -> Self:
        """A stream or consumer that is not there, or was not."""
        return cls(
            what=what,
            found="missing",
            wanted="there",
            remedy="created" if fixed else "`penstock provision` creates it",
            safe=True,
            fixed=fixed,
            fatal=not fixed,
            missing=True,
        )

    def done(self) -> "Difference":
        """The same after it was mended."""
        return msgspec.structs.replace(self, fixed=True, fatal=False, remedy="changed")

    def __str__(self) -> str:
        if self.missing:
            return f"{self.what}: {self.remedy if self.fixed else f'missing; {self.remedy}'}"
        return f"{self.what}: found {self.found}, wanted {self.wanted}; {self.remedy}"
