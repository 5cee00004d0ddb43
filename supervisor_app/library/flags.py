"""The flags of llama-server that decide on memory. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ALL_LAYERS = 2**31
CACHE_TYPES = {
    "f32": (1, 4),
    "f16": (1, 2),
    "bf16": (1, 2),
    "q8_0": (32, 34),
    "q4_0": (32, 18),
    "q4_1": (32, 20),
    "iq4_nl": (32, 18),
    "q5_0": (32, 22),
    "q5_1": (32, 24),
}
"""Numbers of a block, and its bytes."""
DEFAULT_SLOTS = 4
"""Slots that llama-server chooses when nobody says."""


class FlagError(ValueError):
    """A value that llama-server would not take; the text is a whole sentence."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Options of loading a model. `context` 0: what it was trained for; `slots` 0: llama-server's choice."""

    model: Path | None = None
    context: int = 0
    slots: int = 0
    batch: int = 2048
    micro_batch: int = 512
    gpu_layers: int = ALL_LAYERS
    no_device: bool = False
    key_type: str = "f16"
    value_type: str = "f16"
    full_windows: bool = False
    unified: bool | None = None
    cache_on_device: bool = True
    flash: bool = True
    experts_on_host: int = 0
    on_host: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    one_device: bool = False
    main_device: int = 0
    projector: Path | None = None
    projector_on_device: bool = True
    adapters: tuple[Path, ...] = ()
    prompt_cache_mib: int = 8192
    fit: bool = True
    draft: Draft = field(default_factory=lambda: Draft())

    @property
    def shares_context(self) -> bool:
        """Do the slots use one context? Where llama-server chooses their number, also against `-no-kvu`."""
        return bool(self.unified) or self.slots == 0

    @property
    def shrinks(self) -> bool:
        """Does llama-server itself take less where less is free? It changes what nobody has set."""
        return self.fit and self.context == 0 and self.gpu_layers == ALL_LAYERS


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Options that differ for the model that guesses ahead."""

    model: Path | None = None
    gpu_layers: int = ALL_LAYERS
    key_type: str = "f16"
    value_type: str = "f16"
    micro_batch: int = 0


def _count(word: str) -> int:
    number = int(word)
    if not -1 <= number < 2**31:
        raise ValueError(word)
    return max(0, number)


def _layers(word: str) -> int:
    if word in ("auto", "all"):
        return ALL_LAYERS
    number = int(word)
    return ALL_LAYERS if number < 0 else number


def _cache_type(word: str) -> str:
    if word not in CACHE_TYPES:
        raise ValueError(word)
    return word


def _on(word: str) -> bool:
    return word not in ("off", "0", "false", "disabled")


def _paths(word: str) -> tuple[Path, ...]:
    return tuple(Path(name) for name in word.split(",") if name)


def _scaled(word: str) -> tuple[Path, ...]:
    return tuple(Path(name.rpartition(":")[0] or name) for name in word.split(",") if name)


def _shares(word: str) -> tuple[float, ...]:
    return tuple(float(part) for part in word.replace("/", ",").split(",") if part)


def _host_patterns(word: str) -> tuple[str, ...]:
    """Read the patterns of `-ot` for tensors that stay on the host: `exps=CPU`."""
    pairs = [pair.rpartition("=") for pair in word.split(",")]
    patterns = tuple(pattern for pattern, _, place in pairs if place.upper().startswith("CPU"))
    for pattern in patterns:
        _compiled(pattern)
    return patterns


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(pattern) from error


_VALUED: dict[str, tuple[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("-m", "--model"), ("model", Path)),
    **dict.fromkeys(("-c", "--ctx-size"), ("context", _count)),
    **dict.fromkeys(("-np", "--parallel"), ("slots", _count)),
    "--kv-unified-per-slot": ("per_slot", _count),
    **dict.fromkeys(("-b", "--batch-size"), ("batch", _count)),
    **dict.fromkeys(("-ub", "--ubatch-size"), ("micro_batch", _count)),
    **dict.fromkeys(("-ngl", "--gpu-layers", "--n-gpu-layers"), ("gpu_layers", _layers)),
    **dict.fromkeys(("-dev", "--device"), ("no_device", lambda word: word == "none")),
    **dict.fromkeys(("-ctk", "--cache-type-k"), ("key_type", _cache_type)),
    **dict.fromkeys(("-ctv", "--cache-type-v"), ("value_type", _cache_type)),
    **dict.fromkeys(("-fa", "--flash-attn"), ("flash", _on)),
    **dict.fromkeys(("-ncmoe", "--n-cpu-moe"), ("experts_on_host", _count)),
    **dict.fromkeys(("-ts", "--tensor-split"), ("shares", _shares)),
    **dict.fromkeys(("-sm", "--split-mode"), ("one_device", lambda word: word == "none")),
    **dict.fromkeys(("-mg", "--main-gpu"), ("main_device", _count)),
    **dict.fromkeys(("-mm", "--mmproj"), ("projector", Path)),
    **dict.fromkeys(("-cram", "--cache-ram"), ("prompt_cache_mib", int)),
    **dict.fromkeys(("-fit", "--fit"), ("fit", _on)),
}
_ADDED: dict[str, tuple[str, Callable[[str], tuple[Any, ...]]]] = {
    "--lora": ("adapters", _paths),
    "--lora-scaled": ("adapters", _scaled),
    **dict.fromkeys(("-ot", "--override-tensor"), ("on_host", _host_patterns)),
}
_SWITCHES: dict[str, tuple[str, Any]] = {
    "--swa-full": ("full_windows", True),
    **dict.fromkeys(("-kvu", "--kv-unified"), ("unified", True)),
    **dict.fromkeys(("-no-kvu", "--no-kv-unified"), ("unified", False)),
    **dict.fromkeys(("-nkvo", "--no-kv-offload"), ("cache_on_device", False)),
    **dict.fromkeys(("-cmoe", "--cpu-moe"), ("experts_on_host", ALL_LAYERS)),
    "--no-mmproj-offload": ("projector_on_device", False),
    "--no-mmproj": ("projector", None),
}
_OF_DRAFT: dict[str, tuple[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("-md", "--model-draft", "--spec-draft-model"), ("model", Path)),
    **dict.fromkeys(
        ("-ngld", "--gpu-layers-draft", "--n-gpu-layers-draft", "--spec-draft-ngl"), ("gpu_layers", _layers)
    ),
    **dict.fromkeys(("-ctkd", "--cache-type-k-draft", "--spec-draft-type-k"), ("key_type", _cache_type)),
    **dict.fromkeys(("-ctvd", "--cache-type-v-draft", "--spec-draft-type-v"), ("value_type", _cache_type)),
    "--spec-draft-n-ubatch": ("micro_batch", _count),
}


_NONE = {"no_device": "none", "one_device": "none"}
"""Words by which these are switched on."""
_FLAG_OF = {
    **{name: flag for flag, (name, _) in reversed((_VALUED | _ADDED).items())},
    **{f"draft.{name}": flag for flag, (name, _) in reversed(_OF_DRAFT.items())},
}
"""The shortest flag for each."""


def load_of(args: Sequence[str]) -> Load:
    """Read the flags that matter for memory, and pass over all others. Raises FlagError."""
    said: dict[str, Any] = {}
    of_draft: dict[str, Any] = {}
    words = iter(args)
    for word in words:
        flag = word.replace("_", "-") if word.startswith("--") else word
        if flag in _SWITCHES:
            name, value = _SWITCHES[flag]
            said[name] = value
        elif flag in _VALUED:
            name, convert = _VALUED[flag]
            said[name] = _converted(flag, convert, words)
        elif flag in _ADDED:
            name, convert = _ADDED[flag]
            said[name] = (*said.get(name, ()), *_converted(flag, convert, words))
        elif flag in _OF_DRAFT:
            name, convert = _OF_DRAFT[flag]
            of_draft[name] = _converted(flag, convert, words)
    per_slot = said.pop("per_slot", 0)
    if per_slot and not said.get("context"):
        said["context"] = per_slot * (said.get("slots") or DEFAULT_SLOTS)
    return Load(draft=Draft(**of_draft), **said)


def words_of(load: Load) -> tuple[str, ...]:
    """Write down what a command line says of memory, always in the same way, without files and defaults."""
    draft = {f"draft.{name}": value for name, value in _differing(load.draft, Draft())}
    said = {**dict(_differing(load, Load())), **draft}
    return tuple(word for name in sorted(said) for word in _words(name, said[name]))


def files_of(load: Load) -> tuple[Path, ...]:
    """List the files that are loaded, the model first; of a split one the first part."""
    named = (load.model, load.projector, load.draft.model, *load.adapters)
    return tuple(path for path in named if path is not None)


def _differing(load: Load | Draft, default: Load | Draft) -> Iterator[tuple[str, Any]]:
    for name in (each.name for each in fields(default)):
        value = getattr(load, name)
        if value != getattr(default, name) and name not in ("model", "projector", "adapters", "draft"):
            yield name, value


def _words(name: str, value: Any) -> tuple[str, ...]:
    switch = next((flag for flag, said in _SWITCHES.items() if said == (name, value)), None)
    if switch is not None:
        return (switch,)
    flag = _FLAG_OF[name]
    match value:
        case tuple():
            return (flag, ",".join(f"{each}=CPU" if name == "on_host" else f"{each:g}" for each in value))
        case bool():
            return (flag, _NONE.get(name) or ("on" if value else "off"))
        case _:
            return (flag, str(value))


def _converted(flag: str, convert: Callable[[str], Any], words: Iterator[str]) -> Any:
    word = next(words, None)
    if word is None:
        raise FlagError(f"{flag} has no value.")
    try:
        return convert(word)
    except ValueError:
        raise FlagError(f"{flag} {word}: llama-server would not take that value.") from None
