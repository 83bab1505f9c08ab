"""Commands that have commands of their own, a module each. Parsing only, as in `cli`."""
