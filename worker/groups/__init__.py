"""Commands that have commands of their own, a module each: parsing only, as in `worker.cli`."""
