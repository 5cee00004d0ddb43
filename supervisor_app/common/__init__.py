"""Helpers that know no other room: any room may import them, and but for `database` they import no Django."""
