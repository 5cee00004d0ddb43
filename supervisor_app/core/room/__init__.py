"""Room in memory for the servers of one node: what there is, who has it, who wants it."""
