"""The door: lets requests in by key or, while there is no key, from this machine's own programs only."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from supervisor_app.gateway.access.keys import KeyPolicy, KeyRing
from supervisor_app.gateway.access.origins import Origins, host_of, is_app, is_this_machine
from supervisor_app.gateway.problem import Problem, Side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.gateway.http.request_heads import RequestHead

TOLD_BY_BROWSERS = (b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode")
MAX_ADMITTED = 1000


class NotAllowedError(Exception):
    """The request is not let in; `problem` is the answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class Door:
    """Decision on who is let in.

    While no key exists, a page in somebody's browser could ask, too: so its origin, and the name by which it
    reached us (DNS rebinding), must be one of `allowed_hosts`. With keys it would need one.

    `needs_key`: others than this machine's programs can reach us, so without a key nobody is let in, unless
    it is `insecure_open`.
    """

    def __init__(
        self,
        allowed_hosts: Sequence[str],
        *,
        allowed_origins: Sequence[str] = (),
        needs_key: bool = False,
        insecure_open: bool = False,
    ) -> None:
        """Raises BadOriginError."""
        self.keys = KeyRing(())
        self._allowed_hosts = tuple(host.lower() for host in allowed_hosts)
        self._origins = Origins(tuple(allowed_origins))
        self._is_reachable = needs_key
        self._needs_key = needs_key and not insecure_open
        self._insecure_open = insecure_open
        self._admitted: set[tuple[bytes | None, ...]] = set()
        """`TOLD_BY_BROWSERS`, of those that were checked."""

    def who_may(self) -> tuple[int, str]:
        """Describe for the console who is let in as it is now, with a level of logging."""
        if not self.keys.is_open:
            return logging.INFO, "🔒 [GATEWAY] An API key exists: nobody is let in without one"
        if self._needs_key:
            return logging.WARNING, "⚠️ [GATEWAY] No API key exists: nobody is let in until there is one"
        if self._is_reachable:
            return (
                logging.WARNING,
                "⚠️ [GATEWAY] No API key exists: everybody who reaches it can use your models",
            )
        return logging.INFO, "🔓 [GATEWAY] No API key exists: open to the programs of this machine"

    def check(self, head: RequestHead, now: float) -> KeyPolicy | None:
        """Find the key of a request. `now`: Unix seconds. Raises NotAllowedError and keys.Denied."""
        if self._needs_key or not self.keys.is_open:
            return self.keys.find("" if self._is_sent_unasked(head) else head.presented_key, now)
        self.check_page(head)
        return None

    def check_page(self, head: RequestHead) -> None:
        """Refuse other sites' web pages where no key is asked for. Raises NotAllowedError."""
        if self.keys.is_open and not (self._needs_key or self._insecure_open):
            reached_as = tuple(head.noted.get(name) for name in TOLD_BY_BROWSERS)
            if reached_as not in self._admitted:
                self._check_page(head)
                if len(self._admitted) >= MAX_ADMITTED:
                    self._admitted.clear()
                self._admitted.add(reached_as)

    def check_preflight(self, head: RequestHead) -> None:
        """A browser asks whether it may ask. Raises NotAllowedError."""
        if self.keys.is_open and not (self._needs_key or self._insecure_open):
            self._check_host(head)

    def admits_origin(self, origin: str) -> bool:
        """May a page of this origin ask?"""
        return not self.keys.is_open or self._insecure_open or self.knows_origin(origin)

    def knows_origin(self, origin: str) -> bool:
        """Have people let in this origin, or is it one of this machine?"""
        return origin in self._origins or self._is_allowed(host_of(origin.partition("://")[2]))

    def shows_refusals(self, origin: str) -> bool:
        """May this origin read what we say? An app that is refused may read why: it is no page of the web."""
        return self.admits_origin(origin) or is_app(origin)

    @property
    def has_keys(self) -> bool:
        return not self.keys.is_open

    def _is_sent_unasked(self, head: RequestHead) -> bool:
        """Browsers send a password that they know along with whatever any page asks."""
        if not head.key_is_password:
            return False
        origin = head.text(b"origin")
        foreign = head.text(b"sec-fetch-site") in ("cross-site", "same-site")
        return not self.knows_origin(origin) if origin else foreign

    def _check_page(self, head: RequestHead) -> None:
        self._check_host(head)
        self._check_origin(head)

    def _check_host(self, head: RequestHead) -> None:
        given = head.text(b"host")
        host = host_of(given)
        # Without one it is an old client, not a page: browsers speak HTTP/1.1, which has one.
        if b"host" in head.noted and not self._is_allowed(host):
            raise NotAllowedError(
                Problem(
                    status=421,
                    code="host_not_allowed",
                    fault=Side.CLIENT,
                    message=f"This gateway does not go by the name {host or given!r}. Make an API key in the "
                    "admin, or add the name to ALLOWED_HOSTS.",
                )
            )

    def _check_origin(self, head: RequestHead) -> None:
        origin = head.text(b"origin")
        if origin and not self.admits_origin(origin):
            who = origin if is_app(origin) else f"Pages of {origin}"
            raise NotAllowedError(
                Problem(
                    status=403,
                    code="origin_not_allowed",
                    fault=Side.CLIENT,
                    message=f"{who} may not use this gateway without an API key. Make one in the "
                    "admin, or add the origin to LLAMAPROXY_ALLOWED_ORIGINS.",
                )
            )
        # An image or a script of a page tells no origin.
        is_hidden = not origin and head.text(b"sec-fetch-mode") != "navigate"
        if is_hidden and head.text(b"sec-fetch-site") == "cross-site":
            raise NotAllowedError(
                Problem(
                    status=403,
                    code="origin_not_allowed",
                    fault=Side.CLIENT,
                    message="Pages of other sites may not use this gateway without an API key. Make one in "
                    "the admin.",
                )
            )

    def _is_allowed(self, host: str) -> bool:
        return is_this_machine(host) or any(
            allowed in ("*", host) or (allowed.startswith(".") and f".{host}".endswith(allowed))
            for allowed in self._allowed_hosts
        )
