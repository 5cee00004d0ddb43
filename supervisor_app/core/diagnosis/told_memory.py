"""Memory that the engine says it needs: buffers in llama-server's log, and what `llama-fit-params` prints.

llama-server tells its buffers at `-lv 4` and above, while it loads. Nobody can have it echo anything before
it serves, and what a model file itself says is printed after the buffers, so nothing later counts. With `-v`
the buffers of a trial come first, before the line that says how long fitting took.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from supervisor_app.core.devices import HOST
from supervisor_app.core.diagnosis.engine_log import read_log

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from supervisor_app.core.diagnosis.engine_log import LogLine

MIB = 2**20
_BUFFER = re.compile(
    r"(?P<place>[\w-]+) +(?P<kind>model|KV|RS|output|compute|LoRA) buffer size *= *(?P<mib>[\d.]+) MiB"
)
_PROJECTOR = re.compile(r"\[mtmd\] estimated (?:worst-case )?memory usage of mmproj is (?P<mib>[\d.]+) MiB.*")
_PROJECTOR_ON = re.compile(r"CLIP using (?P<place>[\w-]+) backend")
_ROW = re.compile(
    r"\| +- (?P<place>[\w-]+)(?: \(.*\))? +\|(?: *\d+ = *\d+ \+ \()? *(?P<mib>\d+) ="
    r" *\d+ \+ *\d+ \+ *\d+\)?[^|()]*\|"
)
_USING = re.compile(
    r"using device (?P<place>\w+) \((?P<name>.*?)\)(?: \((?P<address>[\da-fA-F:.]+)\))? - \d+ MiB free"
)
_ACCELERATOR = re.compile(r"([A-Za-z]+\d+)(?:_(?!Host)\w*|-\w+)?")
_PRINTED = re.compile(r"(?m)^(?P<place>[\w-]+) (?P<model>\d+) (?P<context>\d+) (?P<compute>\d+) *$")
_FITTED = "fitting params to free memory took"
_INITIAL, _UNCHANGED = "getting device memory data for initial parameters", "no changes needed"
_CONTEXT = "constructing llama_context"
_LOADED = ("initializing, n_slots", "initializing slots", "model loaded")


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """Device of the engine, as the engine names it; `address` on the PCI bus, empty where it is not told."""

    name: str
    address: str = ""


@dataclass(frozen=True, kw_only=True)
class Told:
    """Bytes by the engine's own names of devices (`CUDA0`), and of `core.devices.HOST`."""

    devices: Mapping[str, int]
    accelerators: Mapping[str, Accelerator] = field(default_factory=dict)


def told_by_log(lines: Sequence[str]) -> Told | None:
    """Read what a start has told, from the lines of its log; None when that is not all of it."""
    own = _while_loading(read_log(lines))
    if own is None:
        return None
    needs = _buffers(_after_fitting(own)) or _breakdown(own)
    if not needs:
        return None
    place, projector = _projector(own)
    if projector:
        needs[place] = needs.get(place, 0) + projector
    return Told(devices=needs, accelerators=_accelerators(own))


def told_by_fit_params(printed: str) -> Told | None:
    """Read what `llama-fit-params --fit-print on` wrote: device, model, context, compute, in MiB."""
    needs: dict[str, int] = {}
    for row in _PRINTED.finditer(printed):
        place = _place(row["place"])
        needs[place] = (
            needs.get(place, 0) + sum(int(row[kind]) for kind in ("model", "context", "compute")) * MIB
        )
    return Told(devices=needs) if needs else None


def _while_loading(log: Iterable[LogLine]) -> list[LogLine] | None:
    """The engine's own lines until it could serve; None while it cannot."""
    own = [line for line in log if line.level == "I"]
    end = next((place for place, line in enumerate(own) if line.message.startswith(_LOADED)), None)
    return None if end is None else own[:end]


def _after_fitting(own: list[LogLine]) -> list[LogLine]:
    trials = [place for place, line in enumerate(own) if line.message.startswith(_FITTED)]
    return own[trials[-1] + 1 :] if trials else own


def _buffers(own: Iterable[LogLine]) -> dict[str, int]:
    """Sum of all buffers; of a context that reserves again what it computes in, the last ones count."""
    needs: dict[str, int] = {}
    computing: dict[tuple[int, str], int] = {}
    kinds, context = set(), 0
    for line in own:
        context += line.message.startswith(_CONTEXT)
        if (found := _BUFFER.fullmatch(line.message)) is None:
            continue
        kinds.add(found["kind"])
        count = round(float(found["mib"]) * MIB)
        if found["kind"] == "compute":
            computing[context, found["place"]] = count
        else:
            place = _place(found["place"])
            needs[place] = needs.get(place, 0) + count
    for (_, name), count in computing.items():
        place = _place(name)
        needs[place] = needs.get(place, 0) + count
    return needs if {"model", "compute"} <= kinds else {}


def _breakdown(own: Sequence[LogLine]) -> dict[str, int]:
    """The tables of the first parameters (one for each model), if these are what it was loaded with."""
    messages = [line.message for line in own]
    start = next((place for place, said in enumerate(messages) if said.startswith(_INITIAL)), None)
    end = next((place for place, said in enumerate(messages) if said.endswith(_UNCHANGED)), None)
    needs: dict[str, int] = {}
    for said in messages[start:end] if start is not None and end is not None else ():
        if (row := _ROW.fullmatch(said)) is not None:
            place = _place(row["place"])
            needs[place] = needs.get(place, 0) + int(row["mib"]) * MIB
    return needs


def _projector(own: Iterable[LogLine]) -> tuple[str, int]:
    """Return where the projector of pictures computes, and the bytes it takes; 0: there is none."""
    place, count = HOST, 0
    for line in own:
        if found := _PROJECTOR.fullmatch(line.message):
            count = round(float(found["mib"]) * MIB)
        elif found := _PROJECTOR_ON.fullmatch(line.message):
            place = _place(found["place"])
    return place, count


def _accelerators(own: Iterable[LogLine]) -> dict[str, Accelerator]:
    found = (_USING.search(line.message) for line in own)
    return {
        said["place"]: Accelerator(name=said["name"], address=(said["address"] or "").lower())
        for said in found
        if said
    }


def _place(name: str) -> str:
    """`CUDA0`, also of `CUDA0_Split`; `CUDA_Host`, `CPU_Mapped` and the like are memory of the host."""
    found = _ACCELERATOR.fullmatch(name)
    return found[1] if found else HOST
