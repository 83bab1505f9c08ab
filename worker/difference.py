"""What differs from the plan on a broker or in a store, in words for an operator."""

from typing import Self

import msgspec


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that differs from the plan, or did.

    ``safe``: it can be changed in place without losing anything. ``fixed``: that was done.
    ``fatal``: a worker cannot run with it. ``note``: no action is needed.
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
        """A stream or consumer that is missing, or was."""
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
        """The same difference after it was fixed."""
        return msgspec.structs.replace(self, fixed=True, fatal=False, remedy="changed")

    @property
    def stated(self) -> str:
        """What is not as planned, without what to do."""
        if self.missing:
            return f"{self.what}: missing"
        return f"{self.what}: found {self.found}, wanted {self.wanted}"

    def __str__(self) -> str:
        if self.missing and self.fixed:
            return f"{self.what}: {self.remedy}"
        return f"{self.stated}; {self.remedy}"
