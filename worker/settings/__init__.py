"""The settings: their keys, the values they may have, and where values come from."""
