"""`core.ports.Contexts`: conversations of llama-servers, kept on this machine over a planned end."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor_app.core.context.rules import (
    LEAST_TOKENS,
    MOST_BYTES,
    flags_that_matter,
    why_not_restored,
    why_not_saved,
    worth_saving,
)
from supervisor_app.core.context.saved import Basis, Kept, SavedContext, SavedSlot
from supervisor_app.core.diagnosis.named_files import named_files, parts_of
from supervisor_app.core.machine import slot_files
from supervisor_app.core.machine.identity import boot_id
from supervisor_app.core.machine.lanes import Lane
from supervisor_app.core.machine.slot_actions import (
    SlotActionError,
    read_props,
    read_slots,
    restore_slot,
    save_slot,
)
from supervisor_app.core.shortage import CANNOT, LateError, shortage_of, why_not

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from supervisor_app.core.context.rules import SlotSeen
    from supervisor_app.core.spec import LaunchSpec

SPARE_SECONDS = 0.5
"""Time after its deadline in which a call may still say what it has done."""


class LocalContexts:
    """Saves and restores in one thread for each server, so that a late save meets no restore."""

    def __init__(self, root: Path, *, answers: Callable[[str, float, int], Awaitable[Sequence[int]]]) -> None:
        """`root`: where the folders of all servers are.

        `answers`: tokens that the first answers of a server since a moment (Unix seconds) found in its cache.
        """
        self._root = root
        self._answers = answers
        self._lanes: defaultdict[str, Lane] = defaultdict(lambda: Lane("the disk of contexts", width=1))

    async def prepare(self, name: str, spec: LaunchSpec) -> str:
        try:
            await self._lanes[name].run(slot_files.make_folder, Path(spec.slot_dir))
        except (OSError, *CANNOT) as error:
            return _words(error)
        return ""

    async def save(self, name: str, spec: LaunchSpec, started_at: float, seconds: float) -> Kept:
        return await self._run(name, partial(save, spec, started_at, seconds), seconds)

    async def restore(self, name: str, spec: LaunchSpec, seconds: float) -> Kept:
        return await self._run(name, partial(restore, spec, seconds), seconds)

    async def _run(self, name: str, call: Callable[[], Kept], seconds: float) -> Kept:
        try:
            return await self._lanes[name].run(call, patience=seconds + SPARE_SECONDS)
        except LateError:
            return Kept(problem=f"it took longer than {seconds:.0f} s", seconds=seconds)
        except (OSError, SlotActionError, *CANNOT) as error:
            return Kept(problem=_words(error))

    async def forget(self, names: Collection[str]) -> None:
        with suppress(*CANNOT):  # too old one day, and pruned
            await self._lanes[""].run(slot_files.remove, [self._root / name for name in names])

    async def prune(self) -> None:
        with suppress(*CANNOT):  # the next time
            await self._lanes[""].run(slot_files.prune, self._root, time.time())

    async def answers(self, name: str, since: float, count: int) -> Sequence[int]:
        return await self._answers(name, since, count)

    def close(self) -> None:
        for lane in self._lanes.values():
            lane.close()


def save(spec: LaunchSpec, started_at: float, seconds: float) -> Kept:
    """Save the idle conversations of a server, the newest first, within so many seconds.

    Raises OSError, SlotActionError, ShortageError.
    """
    begun = time.monotonic()
    folder = Path(spec.slot_dir)
    slot_files.make_folder(folder)
    slot_files.clear(folder)
    props = read_props(spec, seconds)
    if props.get("is_sleeping") is True:  # it has given its context back already, and a look would wake it
        return Kept()
    slots = worth_saving(read_slots(spec, left(begun, seconds)))
    basis = basis_of(spec, props)
    if slots and (why := why_not_saved(basis, started_at)):
        return Kept(lost=_known(slots), problem=why)
    kept: list[SavedSlot] = []
    lost, size, problem = 0, 0, ""
    for number, slot in enumerate(slots):
        try:
            saved = _save_one(spec, folder, slot.id, size, left(begun, seconds))
        except (OSError, SlotActionError) as error:
            lost, problem = _known(slots[number:]), _words(error)
            break
        if saved is not None:
            kept.append(saved)
            size += saved.bytes
    if kept:
        slot_files.write_list(folder, SavedContext(basis=basis, saved_at=time.time(), slots=tuple(kept)))
        slot_files.prune(folder.parent, time.time(), newest=folder)
    else:
        slot_files.clear(folder)
    return Kept(
        tokens=tuple(slot.tokens for slot in kept),
        lost=lost,
        bytes=size,
        seconds=time.monotonic() - begun,
        problem=problem,
    )


def _known(slots: Sequence[SlotSeen]) -> int:
    """Count the slots that are known to hold a conversation."""
    return sum(slot.tokens is not None for slot in slots)


def _save_one(spec: LaunchSpec, folder: Path, slot: int, so_far: int, seconds: float) -> SavedSlot | None:
    """Save one slot; None: it holds nothing worth it. A file that is not kept is deleted."""
    if not slot_files.has_room(folder):
        raise SlotActionError(f"too little of the disk is free ({folder})")
    name = slot_files.name_of(slot)
    file = folder / name
    try:
        tokens, written = save_slot(spec, slot, name, seconds)
        size = slot_files.close_file(file)
        if size != written:
            raise SlotActionError(f"of {written} bytes {size} were written")
        if so_far + size > MOST_BYTES:
            raise SlotActionError(f"together they are larger than {MOST_BYTES // 2**30} GiB")
        if tokens >= LEAST_TOKENS:
            return SavedSlot(id=slot, file=name, tokens=tokens, bytes=size)
    except (OSError, SlotActionError):
        file.unlink(missing_ok=True)
        raise
    file.unlink(missing_ok=True)
    return None


def restore(spec: LaunchSpec, seconds: float) -> Kept:
    """Restore what was saved, if it stands on the same basis, and delete the files.

    Raises OSError, SlotActionError, ShortageError.
    """
    begun = time.monotonic()
    folder = Path(spec.slot_dir)
    saved = slot_files.take_list(folder)
    if saved is None:
        slot_files.clear(folder)
        return Kept()
    try:
        return _restore(spec, folder, saved, begun, seconds)
    finally:
        slot_files.clear(folder)


def _restore(spec: LaunchSpec, folder: Path, saved: SavedContext, begun: float, seconds: float) -> Kept:
    why = why_not_restored(saved, basis_of(spec, read_props(spec, seconds)), time.time())
    if why:
        return Kept(lost=len(saved.slots), problem=why)
    tokens: list[int] = []
    size, problem = 0, ""
    for slot in saved.slots:
        try:
            file = folder / slot.file
            if file.parent != folder or file.stat().st_size != slot.bytes:
                raise SlotActionError(f"{slot.file} is not as it was saved")
            restored = restore_slot(spec, slot.id, slot.file, left(begun, seconds))
            if restored != slot.tokens:
                raise SlotActionError(f"of {slot.tokens} tokens {restored} were restored")
        except (OSError, SlotActionError) as error:
            problem = problem or _words(error)
            continue
        tokens.append(restored)
        size += slot.bytes
    return Kept(
        tokens=tuple(tokens),
        lost=len(saved.slots) - len(tokens),
        bytes=size,
        seconds=time.monotonic() - begun,
        problem=problem,
    )


def left(begun: float, seconds: float) -> float:
    """Return the seconds that are left. Raises SlotActionError when none are."""
    rest = begun + seconds - time.monotonic()
    if rest <= 0:
        raise SlotActionError(f"it took longer than {seconds:.0f} s")
    return rest


def basis_of(spec: LaunchSpec, props: dict[str, Any]) -> Basis:
    """Return all that must be the same when a context of this server is restored. Raises ShortageError."""
    told = props.get("model_path")
    loaded = parts_of(Path(spec.cwd, told)) if isinstance(told, str) and told else []
    files = [*loaded, *(named.path for named in named_files(spec) if named.gguf)]
    program = Path(spec.command[0]) if spec.command else Path()
    environment = [list(each) for each in spec.environment]
    seen = [_stat(file) for file in (program, *files)]
    return Basis(
        model=_digest(seen[1:]),
        flags=_digest([flags_that_matter(spec.args), environment]),
        build=f"{props.get('build_info', '')} {_digest(seen[0])}",
        changed_at=max(changed for changed, *_ in seen),
        boot=boot_id(),
    )


def _stat(path: Path) -> tuple[float, str, tuple[int, ...]]:
    """Return the time of the last change in Unix seconds, the path, and what tells the file from others."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return 0.0, str(path), ()
    return found.st_ctime, str(path), (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _digest(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _words(error: Exception) -> str:
    """Say what went wrong, as part of a sentence."""
    if isinstance(error, SlotActionError):
        return str(error)
    if isinstance(error, OSError) and error.strerror and not shortage_of(error):
        return f"{error.filename or 'the disk'}: {error.strerror}"
    return why_not(error)
