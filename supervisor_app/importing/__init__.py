"""Configurations of other programs, read into servers of `llamaproxy.toml`. Pure."""
