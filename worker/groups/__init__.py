"""Commands that have commands or rules of their own, a module each. Parsing only, as in `cli`."""
