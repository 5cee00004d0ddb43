"""Read a wish out of a server's configuration: the event that it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.core import lifecycle
from supervisor_app.core.server_config import Wish
from supervisor_app.core.wording import idle_note

if TYPE_CHECKING:
    from supervisor_app.core.server_config import ServerConfig

FIRST_GENERATION = 1
"""Generation of a server that was made, and that nobody has asked for since."""
Asked = lifecycle.Start | lifecycle.Restart | lifecycle.Stop


def event_of(config: ServerConfig, known: int) -> Asked | None:
    """Return the event for a wish that is newer than the generation `known`; None: there is none."""
    generation = config.generation
    match config.wish_since(known):
        case Wish.START:
            is_made = not known and generation == FIRST_GENERATION
            return lifecycle.Start(generation=generation, preload=is_made)
        case Wish.RESTART:
            return lifecycle.Restart(
                generation=generation, seamless=config.restart_seamless, at_once=config.at_once
            )
        case Wish.STOP:
            why = "" if config.idle_seconds is None else idle_note(config.idle_seconds)
            return lifecycle.Stop(why, generation=generation, at_once=config.at_once)
        case _:
            return None
