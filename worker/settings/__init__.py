"""What an operator decides: the keys, what they may hold, where they come from."""
