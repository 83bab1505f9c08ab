"""The pure domain: typed events and how they become rows. msgspec and the standard library only."""
