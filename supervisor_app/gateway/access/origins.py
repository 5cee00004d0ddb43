"""Names that reach this machine only, and the pages and apps that people have let in. Pure."""

from __future__ import annotations

import re

AUTHORITY = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,255})(?::[0-9]{0,5})?")
_BYTE = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_THIS_MACHINE = re.compile(
    rf"127\.{_BYTE}\.{_BYTE}\.{_BYTE}|0\.0\.0\.0|\[::1?\]|(?:[a-z0-9-]+\.)*localhost|ip6-(?:localhost|loopback)"
)
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^\s/?#@*]+|\*)", re.IGNORECASE)
_OF_THE_WEB = frozenset({"http", "https"})


class BadOriginError(ValueError):
    """An origin that is none; the message is for the person who configured it."""


def host_of(authority: str) -> str:
    """Return the host of an authority, an IPv6 address in brackets; empty when it is none."""
    match = AUTHORITY.fullmatch(authority.lower())
    return match[1] if match else ""


def is_this_machine(host: str) -> bool:
    """Tell whether a name always means this machine, so that no page can be rebound to another by it."""
    return _THIS_MACHINE.fullmatch(host) is not None


def is_app(origin: str) -> bool:
    """Is it the origin of an app or an extension? No page of the web can have such an origin."""
    match = _ORIGIN.fullmatch(origin)
    return match is not None and match[1].lower() not in _OF_THE_WEB


class Origins:
    """The origins that people let in: `scheme://host`, with a port if it has one; of an app also `scheme://*`."""

    def __init__(self, listed: tuple[str, ...] = ()) -> None:
        """Raises BadOriginError."""
        self._listed = frozenset(_checked(origin).lower() for origin in listed)

    def __contains__(self, origin: str) -> bool:
        origin = origin.lower()
        scheme, _, host = origin.partition("://")
        return origin in self._listed or bool(host and f"{scheme}://*" in self._listed)


def _checked(origin: str) -> str:
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        raise BadOriginError(f"{origin!r} is not an origin. Write app://name, or https://app.example.org.")
    if match[2] == "*" and match[1].lower() in _OF_THE_WEB:
        raise BadOriginError(f"{origin!r} would be every page of the web. Name the host.")
    return origin
