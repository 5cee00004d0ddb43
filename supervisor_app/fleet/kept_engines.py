"""Engines that a file describes no more, kept while servers that people made are to run on them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor_app.fleet.models import LlamaServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.fleet.conf import Overlay
    from supervisor_app.fleet.engines import NamedEngine

log = logging.getLogger(__name__)


class KeptEngines:
    """Memory for engines that are in use: an edit of the file ends no server."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._said: Mapping[str, NamedEngine] = {}
        self._kept: Mapping[str, NamedEngine] = {}

    def __call__(self, said: Overlay) -> Overlay:
        """Return what the file says, with those that it lacks. Raises what the database raises."""
        if said.engines != self._said:
            self._compare(said)
        return replace(said, engines={**self._kept, **said.engines}) if self._kept else said

    def _compare(self, said: Overlay) -> None:
        known = {**self._kept, **self._said}
        lost = known.keys() - said.engines.keys()
        rows = LlamaServer.objects.on_node(self._node).filter(engine__in=lost) if lost else ()
        users = [row for row in rows if "engine" not in row.file_fields]
        self._said, self._kept = said.engines, {row.engine: known[row.engine] for row in users}
        for row in users:
            log.error(
                "❌ [CONFIG] %s has no [engines.%s] any more: %s goes on with what it said before. Write "
                "that table again, or choose another engine for %s: the next supervisor would not start it.",
                said.fleet_file or "llamaproxy.toml",
                row.engine,
                row.name,
                row.name,
                extra={"server": row.name},
            )
