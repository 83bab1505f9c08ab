"""Events that the database itself sends: taken from a table, checked, sent in order."""
