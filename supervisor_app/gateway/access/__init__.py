"""Keys, limits and origins: the decision who is let in, and how much."""
