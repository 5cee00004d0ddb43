"""manage.py, killed by SIGKILL at one point of its way. The product knows nothing of it.

    python killpoint.py {before,after} MODULE:FUNCTION [--nth N] [--about TEXT] -- manage.py ARGUMENT…

It dies before or after the Nth call of FUNCTION; with TEXT only those calls count whose arguments show it.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import os
import runpy
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NEEDS_DJANGO = ("django", "supervisor_app")
"""Everything else is patched before the settings are read."""


class Point:
    """A moment of a call."""

    def __init__(self, moment: str, *, nth: int, about: str) -> None:
        self.moment = moment
        self.nth = nth
        self.about = about
        self.calls = 0

    @contextmanager
    def around(self, *arguments: Any) -> Iterator[None]:
        dying = self._is_due(arguments)
        if dying and self.moment == "before":
            die()
        yield
        if dying:
            die()

    def _is_due(self, arguments: Any) -> bool:
        if self.about not in repr(arguments):
            return False
        self.calls += 1
        return self.calls == self.nth


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(function: Callable[..., Any], point: Point) -> Callable[..., Any]:
    """The same function, which may be the last that is called."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def waits(*args: Any, **kwargs: Any) -> Any:
            with point.around(args, kwargs):
                return await function(*args, **kwargs)

        return waits

    @functools.wraps(function)
    def returns(*args: Any, **kwargs: Any) -> Any:
        with point.around(args, kwargs):
            return function(*args, **kwargs)

    return returns


def arm(place: str, point: Point) -> None:
    """Put the point into the product."""
    module, _, path = place.partition(":")
    if module.startswith(NEEDS_DJANGO):
        importlib.import_module("django").setup()
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    setattr(owner, name, deadly(getattr(owner, name), point))


def main() -> None:
    split = sys.argv.index("--")
    parser = argparse.ArgumentParser()
    parser.add_argument("moment", choices=["before", "after"])
    parser.add_argument("place", metavar="MODULE:FUNCTION")
    parser.add_argument("--nth", type=int, default=1)
    parser.add_argument("--about", default="")
    options = parser.parse_args(sys.argv[1:split])
    sys.argv = sys.argv[split + 1 :]
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llamaproxy.settings")
    arm(options.place, Point(options.moment, nth=options.nth, about=options.about))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
