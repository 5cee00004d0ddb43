"""GPUs of AMD and Intel, by the files of their drivers; no library, no right but to read them.

Cards: https://docs.kernel.org/gpu/amdgpu/driver-misc.html (`mem_info_*`), for Intel
`tile*/physical_vram_size_bytes` of xe and `lmem_*_bytes` of i915. Processes: https://docs.kernel.org/gpu/drm-usage-stats.html
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor_app.core.devices import Device, Survey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

AMD, INTEL, NVIDIA = "0x1002", "0x8086", "0x10de"
_VENDORS = {AMD: "AMD", INTEL: "Intel"}
_CARD = re.compile(r"card(\d+)")
_SIZE = re.compile(r"(\d+)\s*(|KiB|MiB|GiB)")
_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_MEMORY_KEYS = ("drm-resident-", "drm-memory-", "drm-total-")
"""Fields of what lies there now, as newer and older kernels name it; else all that was asked for."""
_OF_THE_CARD = ("vram", "local")
MOST_DESCRIPTORS = 4096
"""Descriptors read of one process: a server with more connections is not looked through to the end."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card with memory of its own. `used` None: its driver tells the use of each process alone."""

    address: str
    name: str
    total: int
    used: int | None


def read_drm(sys: Path, proc: Path, ours: frozenset[int]) -> Survey:
    """Read all cards but NVIDIA's."""
    found = [_card(path) for path in _cards(sys)]
    cards = [card for card in found if isinstance(card, Card)]
    problems = tuple(problem for problem in found if isinstance(problem, str))
    if not cards:
        return Survey(problems=problems)
    ours_by_card = _used_by(proc, ours)
    everybody = _used_by(proc, _all_pids(proc)) if any(card.used is None for card in cards) else {}
    devices = []
    for card in cards:
        users = ours_by_card.get(card.address, {})
        mine = sum(users.values())
        used = card.used if card.used is not None else sum(everybody.get(card.address, {}).values())
        devices.append(
            Device(
                id=card.address,
                name=card.name,
                total=card.total,
                free=max(0, card.total - max(used, mine)),
                ours=min(mine, card.total),
                users=users,
                note="" if card.used is not None else "What processes of other users have may not be seen.",
            )
        )
    return Survey(tuple(devices), problems)


def has_cards(sys: Path) -> bool:
    """Tell whether there is a card of anybody, whose driver may have to be asked."""
    return bool(_cards(sys))


def has_nvidia(sys: Path) -> bool:
    """Tell whether a card of NVIDIA is there, whose driver has to be asked."""
    return any(_line(path / "vendor") == NVIDIA for path in _cards(sys))


def _cards(sys: Path) -> list[Path]:
    """The `device` directories, in the order of the cards; outputs (`card0-DP-1`) are none."""
    try:
        names = os.listdir(sys / "class/drm")
    except OSError:
        return []
    numbers = sorted(int(found[1]) for name in names if (found := _CARD.fullmatch(name)))
    return [sys / f"class/drm/card{number}/device" for number in numbers]


def _card(device: Path) -> Card | str | None:
    """A card; or why it cannot be read; or None for one that uses the host's memory, or is not of these."""
    vendor = _line(device / "vendor")
    if vendor not in _VENDORS:
        return None
    address = _address(device)
    model = _line(device / "product_name") or f"{_VENDORS[vendor]} {_line(device / 'device')}".strip()
    name = f"GPU {address}: {model}"
    try:
        total, used = _amd(device) if vendor == AMD else _intel(device)
    except (OSError, ValueError) as error:
        return f"{name} cannot be read: {error}."
    return None if total == 0 else Card(address=address, name=name, total=total, used=used)


def _amd(device: Path) -> tuple[int, int | None]:
    return _number(device / "mem_info_vram_total"), _number(device / "mem_info_vram_used")


def _intel(device: Path) -> tuple[int, int | None]:
    """An integrated one has neither file."""
    tiles = list(device.glob("tile*/physical_vram_size_bytes"))
    if tiles:
        return sum(_number(tile) for tile in tiles), None
    card = device.parent
    if (card / "lmem_total_bytes").exists():
        total = _number(card / "lmem_total_bytes")
        return total, total - _number(card / "lmem_avail_bytes")
    return 0, None


def _address(device: Path) -> str:
    """`0000:03:00.0`, as `drm-pdev` has it."""
    found = re.search(r"(?m)^PCI_SLOT_NAME=(\S+)$", _text(device / "uevent"))
    return found[1] if found else device.resolve().name


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _line(path: Path) -> str:
    return _text(path).strip()


def _number(path: Path) -> int:
    """Raises OSError, and ValueError when that is no number."""
    text = path.read_text(errors="replace").strip()
    number = int(text, 0)
    if not 0 <= number < 2**60:
        raise ValueError(f"{path.name} says {text[:40]}")
    return number


# --- Processes -----------------------------------------------------------------------------------------


def _all_pids(proc: Path) -> list[int]:
    try:
        return [int(name) for name in os.listdir(proc) if name.isdigit()]
    except OSError:
        return []


def _used_by(proc: Path, pids: Iterable[int]) -> dict[str, dict[int, int]]:
    """Bytes of each process on each card. A client that descriptors or processes share counts once."""
    clients: dict[tuple[str, str], tuple[int, int]] = {}
    for pid in pids:
        for number, fields in enumerate(_clients(proc / str(pid))):
            address = fields.get("drm-pdev", "")
            client = fields.get("drm-client-id") or f"{pid} {number}"
            clients[address, client] = pid, _memory(fields)
    used: dict[str, dict[int, int]] = {}
    for (address, _), (pid, count) in clients.items():
        users = used.setdefault(address, {})
        users[pid] = users.get(pid, 0) + count
    return used


def _clients(process: Path) -> Iterator[Mapping[str, str]]:
    """The fields of each descriptor of a GPU. Other users' processes cannot be seen."""
    try:
        descriptors = os.listdir(process / "fd")[:MOST_DESCRIPTORS]
    except OSError:
        return
    for number in descriptors:
        try:
            if not os.readlink(process / "fd" / number).startswith("/dev/dri/"):
                continue
            text = (process / "fdinfo" / number).read_text(errors="replace")
        except OSError:  # closed meanwhile
            continue
        lines = (line.partition(":") for line in text.splitlines())
        yield {key.strip(): value.strip() for key, colon, value in lines if colon}


def _memory(fields: Mapping[str, str]) -> int:
    """Bytes on the card itself: what lies in the host's memory (`gtt`, `system`) is counted there."""
    for prefix in _MEMORY_KEYS:
        sizes = [
            size
            for key, text in fields.items()
            if key.startswith(tuple(prefix + region for region in _OF_THE_CARD))
            and (size := _size(text)) is not None
        ]
        if sizes:
            return sum(sizes)
    return 0


def _size(text: str) -> int | None:
    found = _SIZE.fullmatch(text)
    return int(found[1]) * _UNITS[found[2]] if found else None
