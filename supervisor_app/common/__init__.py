"""Helpers that know no other room: any room may import them.

`admin` and `database` need Django; the others import none.
"""
