"""The world around the data plane: the database, the channel layer, other processes. Needs Django."""
