"""One module a command: each function is what a command does after parsing."""
