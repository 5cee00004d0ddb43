"""Write down which models a node has on disk, what is in them, and whether they fit. Blocking."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from supervisor_app.common.moments import moment
from supervisor_app.common.storage import storable
from supervisor_app.core.memory_rules import MemoryRules
from supervisor_app.core.placement.world import Need, Source
from supervisor_app.core.spec import LaunchSpec
from supervisor_app.fleet.devices import known_devices
from supervisor_app.fleet.footprint_rows import known_needs
from supervisor_app.fleet.launches import look_at
from supervisor_app.library.shelf import Shelved, describe, is_projector
from supervisor_app.modelfiles.fitting import fit_of
from supervisor_app.modelfiles.models import ModelFile
from supervisor_app.modelfiles.places import Places, places_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from supervisor_app.core.devices import Device
    from supervisor_app.fleet.conf import Overlay
    from supervisor_app.fleet.footprint_record import Known

CONTEXT = 8192
"""Tokens of the context with which a model is estimated that no server uses: enough to try it."""
LONGEST_PATH = 1000
FACTS = ("name", "architecture", "quantization", "parameters", "context", "problem", "need")
"""Columns that only change with the files, or with the devices."""
ELSEWHERE = "It is outside of this node's directory of models, so it is deleted on the host itself."


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """All that a look at models needs to know of the node."""

    places: Places
    devices: Sequence[Device]
    needs: Mapping[str, Known]
    rules: MemoryRules


def surroundings_of(node: str, overlay: Overlay) -> Surroundings:
    """Read them. Raises what the database raises."""
    seen = next((each.devices for each in known_devices() if each.node == node), ())
    return Surroundings(
        places=places_of(node, overlay),
        devices=seen,
        needs=known_needs(),
        rules=overlay.memory or MemoryRules(),
    )


def shelve(node: str, overlay: Overlay, breathe: Callable[[], object] = lambda: None) -> int:
    """Make the rows of a node as its disk is; return how many models there are.

    Headers are read of new files alone; `breathe` is called after each. Raises what the database raises.
    """
    around = surroundings_of(node, overlay)
    rows = {row.path: row for row in ModelFile.objects.filter(node=node)}
    found = {path: model for model in around.places.models() if (path := _path(model))}
    for path, model in found.items():
        row = rows.get(path)
        mark = _mark(model, around.devices)
        if row is None or row.mark != mark:
            facts = _facts(model, around.devices)
            breathe()
        else:
            facts = {name: getattr(row, name) for name in FACTS}
        columns = storable({**facts, **_standing(model, facts, around), "mark": mark})
        columns["modified_at"] = moment(model.modified)
        if row is None:
            ModelFile.objects.create(node=node, path=path, **columns)
        elif any(getattr(row, name) != value for name, value in columns.items()):
            # Not the columns of the wish: somebody may have written these since.
            ModelFile.objects.filter(pk=row.pk).update(**columns)
    ModelFile.objects.filter(node=node, path__in=rows.keys() - found.keys()).delete()
    return len(found)


def _path(model: Shelved) -> str:
    """Return the path as a column holds it; empty: no column can."""
    path = str(model.path)
    return path if len(path) <= LONGEST_PATH and storable(path) == path else ""


def _mark(model: Shelved, devices: Sequence[Device]) -> str:
    seen = [model.mark, *(f"{device.id} {device.total}" for device in devices)]
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()


def _facts(model: Shelved, devices: Sequence[Device]) -> dict[str, Any]:
    described = describe(model)
    need: dict[str, int] = {}
    problem = described.problem
    if not problem and not is_projector(model.path.name):
        launch = look_at(_launch(model, described.context), devices)
        need, problem = dict(launch.fresh.estimated), launch.problem
    facts = {name: getattr(described, name) for name in FACTS if name not in ("need", "problem")}
    return {**facts, "need": need, "problem": problem}


def _launch(model: Shelved, context: int) -> LaunchSpec:
    projector = ["--mmproj", str(model.projectors[0].path)] if model.projectors else []
    args = ("-m", str(model.path), "-c", str(_context(context)), *projector)
    return LaunchSpec(host="", port=0, command=(), args=args, cwd=str(model.path.parent))


def _context(trained: int) -> int:
    return min(trained or CONTEXT, CONTEXT)


def _standing(model: Shelved, facts: Mapping[str, Any], around: Surroundings) -> dict[str, Any]:
    """Return the columns that change without the file."""
    users = around.places.users(file.path for file in model.files)
    known = next((around.needs[name] for name in users if name in around.needs), None)
    if known is not None and known.source is not Source.ESTIMATED and known.devices:
        need, remark = Need(devices=dict(known.devices), source=known.source, runs=known.runs), ""
    else:
        need = Need(devices=facts["need"], source=Source.ESTIMATED)
        remark = f"with a context of {_context(facts['context']):,} tokens".replace(",", " ")
    fit = fit_of(facts["name"], need, around.devices, around.rules, remark)
    inside = around.places.own in model.path.parents
    return {
        "files": [[str(each.path), each.mark] for each in (*model.files, *model.projectors)],
        "parts": len(model.files),
        "size": model.size,
        "used_by": users,
        "fits": fit.fits,
        "fit": fit.sentence,
        "kept": "" if inside else ELSEWHERE,
    }
