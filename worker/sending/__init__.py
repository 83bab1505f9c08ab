"""What every way to send has in common: promises, what is unconfirmed, what may come of it."""
