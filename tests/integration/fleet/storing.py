"""An open `OrmStore`, closed after its use."""

from __future__ import annotations

from contextlib import asynccontextmanager

from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.lease import Lease
from supervisor_app.fleet.store import OrmStore
from supervisor_app.roles.store_hooks import STORE_HOOKS


@asynccontextmanager
async def opened(node="local", overlay=None, command=("llama-server",)):
    store = OrmStore(
        node=node,
        overlay=lambda: overlay or Overlay(),
        command=lambda: command,
        lease=Lease(node),
        hooks=STORE_HOOKS,
    )
    try:
        yield store
    finally:
        store.close()
