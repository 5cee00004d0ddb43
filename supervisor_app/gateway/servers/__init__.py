"""Requests at servers: which one, when, and what a crash makes of it."""
