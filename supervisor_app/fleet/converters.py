"""Parts of our addresses: a wish, and a server's name whatever is in it."""

from __future__ import annotations

import re

from supervisor_app.core.server_config import Wish

_OUTSIDE_SLUG = re.compile(r"[^-a-zA-Z0-9_]")
_ESCAPE = re.compile(r"~([0-9A-F]{2})")
_EMPTY = "~"


class WishConverter:
    regex = "|".join(Wish)

    def to_python(self, value: str) -> Wish:
        return Wish(value)

    def to_url(self, value: str) -> str:
        return str(value)


class NameConverter:
    """The name of a server: a slug as it is, every other character as `~` and its UTF-8 bytes in hex.

    Forms make slugs only, yet a row may hold any name (`a b` is at `a~20b`): a page that lists the row must
    not fail for want of an address. Percent signs would not do: proxies and browsers undo some of them.
    """

    regex = rf"{_EMPTY}|(?:[-a-zA-Z0-9_]|~[0-9A-F]{{2}})+"

    def to_python(self, value: str) -> str:
        """Raise ValueError, which Django takes for an address that does not exist, where no row can match."""
        if value == _EMPTY:
            return ""
        name = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), value).encode("latin-1").decode()
        if "\0" in name:
            raise ValueError("PostgreSQL takes no NUL byte.")
        return name

    def to_url(self, value: str) -> str:
        return _OUTSIDE_SLUG.sub(_escaped, str(value)) or _EMPTY


def _escaped(character: re.Match[str]) -> str:
    return "".join(f"~{byte:02X}" for byte in character[0].encode())
