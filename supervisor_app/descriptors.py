"""File descriptors: as many as may be had, and a reserve that no listener gives away."""

from __future__ import annotations

import resource

from supervisor_app.gateway.http.limits import Limits
from supervisor_app.web.limits import Shares, WebLimits, shares_of

FILES = 16_384


def allow_many_files() -> int:
    """Raise the usual limit of 1024: the listeners may take more. Returns how many there are now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return FILES if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def connection_shares(*, web: bool, gateway: bool) -> Shares:
    """Numbers of connections that this process's listeners may take."""
    most = Shares(web=WebLimits().connections, gateway=Limits().connections)
    return shares_of(allow_many_files(), web=web, gateway=gateway, most=most)
