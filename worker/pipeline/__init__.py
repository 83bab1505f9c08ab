"""From a message to a committed row: the path of a batch, and the protocols it relies on."""
