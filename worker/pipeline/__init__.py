"""From a message to a committed row: the way of a batch, and the promises it relies on."""
