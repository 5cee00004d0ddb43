"""Parts of pages that are pushed, each named by the address at which it can be asked for, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.http import Http404, QueryDict
from django.urls import Resolver404, resolve

from supervisor_app.common.sub_path import inner_path
from supervisor_app.fleet.events import rendered
from supervisor_app.web.rights import Right, Role, RoleRights, declared_by

CLOCK_SECONDS = 60
Asked = Mapping[str, str]
"""Values that an address has in its path and in its query."""
Load = Callable[[Asked, RoleRights], Sequence[dict[str, Any]]]
"""Reads from the database a context for each fragment. Blocking; raises Http404."""
View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a page."""

    right: Right
    template: str
    load: Load
    pause: float
    """Seconds between two looks at it."""


@dataclass(frozen=True)
class Address:
    """An address of a part, as a page has it."""

    path: str
    part: Part
    asked: Asked = field(compare=False)


def pushed(template: str, load: Load, *, pause: float = 1.0) -> Callable[[View], View]:
    """Let what a view answers be pushed to the pages that show it, for those with the right of the view."""

    def decorate(view: View) -> View:
        declared = declared_by(view)
        if declared is None:
            raise TypeError(f"{view.__name__} has to declare a right first")
        vars(view)["part"] = Part(right=declared.right, template=template, load=load, pause=pause)
        return view

    return decorate


def address_of(path: str) -> Address | None:
    """Find the part at an address of ours, query and all; None: there is no such part."""
    bare, _, query = path.partition("?")
    try:
        match = resolve(inner_path(bare))
    except Resolver404:
        return None
    part = vars(match.func).get("part")
    values = {**QueryDict(query).dict(), **match.kwargs}
    asked = {str(name): str(value).replace("\0", "") for name, value in values.items()}
    return Address(path, part, asked) if isinstance(part, Part) else None


def fragments_of(address: Address, role: Role | None) -> tuple[str, ...]:
    """Read and render a part for all of a role; none where what it tells of is gone. Blocking.

    Ages go on by themselves in a page: they are written as of a moment that stays the same for a while, so
    that a part in which nothing else has changed reads as before, and is not sent.
    """
    may, now = RoleRights(role), time.time() // CLOCK_SECONDS * CLOCK_SECONDS
    try:
        contexts = address.part.load(address.asked, may)
    except Http404:
        return ()
    shown = {"may": may, "now": now, "pushed": True}
    return tuple(rendered(address.part.template, {**context, **shown}) for context in contexts)
