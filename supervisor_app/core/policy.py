"""The policy by which a process of a server is decided on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.common.records import replace
from supervisor_app.core.lifecycle import Policy

if TYPE_CHECKING:
    from supervisor_app.core.server_config import ServerConfig


def policy_of(
    config: ServerConfig, *, own: bool, room_is_on: bool, in_turn: bool, keeps_context: bool
) -> Policy:
    """Return the policy for the server's `own` process, or for the one beside it.

    That one always asks for room, for both; limits by which an idle server is restarted are not for it.
    """
    health = config.health
    return Policy(
        restart=config.restart,
        health=health if own else replace(health, max_memory_mb=0, canary_minutes=0),
        room=room_is_on or not own,
        in_turn=in_turn,
        keeps_context=own and keeps_context,
        beside=not own,
        adopts=not config.spare_ports,
    )
