"""Command lines of llama-server: how flags are spelled, and what those say that supervision needs. Pure."""
