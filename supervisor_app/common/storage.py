"""Values for a database, and the error of a database that is away. Without Django."""

from __future__ import annotations

from typing import Any


class StoreError(Exception):
    """The database did not answer; try again later."""


def storable(value: Any) -> Any:
    """Drop NULs and half surrogate pairs, which command lines and answers may hold and no database takes."""
    match value:
        case str():
            return value.replace("\0", "").encode("utf-8", "replace").decode()
        case list():
            return [storable(item) for item in value]
        case dict():
            return {key: storable(item) for key, item in value.items()}
    return value
