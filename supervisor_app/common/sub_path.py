"""The path of a proxy under which the pages are, such as `/llama` (`FORCE_SCRIPT_NAME`). Usually none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.urls import get_script_prefix, set_script_prefix

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


def sub_path() -> str:
    """Return the sub-path without a slash at its end; empty where the pages have a host to themselves."""
    return settings.FORCE_SCRIPT_NAME or ""


def inner_path(path: str) -> str:
    """Return a path as our URLs have it, without the sub-path."""
    prefix = sub_path()
    return (path.removeprefix(prefix) or "/") if _is_below(prefix, path) else path


def outer_path(path: str) -> str:
    """Return a path as browsers have it, with the sub-path: a proxy may have taken that away."""
    return sub_path() + inner_path(path)


def _is_below(prefix: str, path: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


@contextmanager
def script_prefix() -> Iterator[None]:
    """Let `reverse` know the sub-path, in threads and tasks that serve no request of Django's."""
    before = get_script_prefix()
    set_script_prefix(f"{sub_path()}/")
    try:
        yield
    finally:
        set_script_prefix(before)


def below_sub_path(application: Application) -> Application:
    """Wrap an ASGI application: a proxy may pass the sub-path on or take it away.

    A program that asks this process directly, such as a health check, need not know of the sub-path either.
    """

    async def wrapped(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if sub_path() and "path" in scope:
            scope = {**scope, "path": outer_path(scope["path"]), "root_path": sub_path()}
        await application(scope, receive, send)

    return wrapped
