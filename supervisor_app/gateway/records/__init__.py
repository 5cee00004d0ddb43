"""Records and counts of requests."""
