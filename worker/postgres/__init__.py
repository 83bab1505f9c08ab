"""All that knows PostgreSQL: the pool, the transaction of a batch, what is read back."""
