"""Clients and their requests: from a connection's first byte to the record of what became of it."""
