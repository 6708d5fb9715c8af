"""The commands behind the words of recbole_ib_cli: each imports what it runs."""
