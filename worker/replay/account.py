"""What became of messages that were read again."""

from collections.abc import Sequence

import msgspec


class Account(msgspec.Struct, kw_only=True):
    """Each message counts once: ``inserted`` if its event was new, ``present`` if it was stored,
    ``differing`` if another content is stored with its id and time, which stays, ``rejected`` if it
    cannot become rows. ``differing_ids`` are those of events, as far as they are kept.
    """

    inserted: int = 0
    present: int = 0
    differing: int = 0
    rejected: int = 0
    differing_ids: Sequence[str] = ()

    @property
    def read(self) -> int:
        """How many messages it is about."""
        return self.inserted + self.present + self.differing + self.rejected
