"""What the company says, one module a domain: each has a function ``tell``."""
