"""Helpers that know no other room: any room may import them, and they import no Django."""
