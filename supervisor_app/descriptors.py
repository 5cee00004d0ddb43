"""How the listeners of one process share its file descriptors, with a reserve that none gives away."""

from __future__ import annotations

from supervisor_app.core.file_limit import raise_file_limit
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.web.limits import Shares, WebLimits, shares_of


def connection_shares(*, web: bool, gateway: bool) -> Shares:
    """Numbers of connections that this process's listeners may take."""
    most = Shares(web=WebLimits().connections, gateway=Limits().connections)
    return shares_of(raise_file_limit(), web=web, gateway=gateway, most=most)
