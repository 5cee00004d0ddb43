"""The bundled engine: llama.cpp's own HTTP server out of the PyPI package xllamacpp, as a process.

Run by path and isolated, in the place of llama-server: `python -I launcher.py -m model.gguf --port 8134 …`.
Takes llama-server's usual flags and their environment variables, writes the same lines, ends with the same
exit codes. So it imports nothing of ours. It has no router mode and no downloads; it refuses by name flags
that it does not know.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

DEFAULT_PORT = 8080
"""llama.cpp's documented default; its builds of late 2026 say 9931."""
TRUTHY = frozenset({"on", "enabled", "true", "1"})
FALSEY = frozenset({"off", "disabled", "false", "0"})


@dataclass(frozen=True)
class Member:
    """A member of one of xllamacpp's enums, by name, so that flags are checked before the import."""

    enum: str
    name: str


@dataclass(frozen=True)
class Flag:
    """A flag that takes a value, from which `parse` makes what the attributes of CommonParams are set to."""

    names: tuple[str, ...]
    attributes: tuple[str, ...]
    parse: Callable[[str], Any]
    env: str = ""


@dataclass(frozen=True)
class Switch:
    """A flag without a value, and its opposite; `inverted` where the attribute says the opposite."""

    on: tuple[str, ...]
    off: tuple[str, ...]
    attribute: str
    env: str = ""
    inverted: bool = False


Parameter = tuple[str, Any]


def integer(text: str) -> int:
    """Parse as C++'s std::stoi does, its error text included: what follows the digits does not matter."""
    found = re.match(r"\s*[+-]?\d+", text)
    if not found or not -(2**31) <= int(found[0]) < 2**31:
        raise ValueError("stoi")
    return int(found[0])


def decimal(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("stof") from None


def port(text: str) -> int:
    value = integer(text)
    if not 0 <= value < 2**16:  # llama-server would listen on another one, modulo 65536
        raise ValueError(f"{value} is not a port (0 to 65535)")
    return value


def slots(text: str) -> int:
    value = integer(text)
    if value == 0:
        raise ValueError("error: invalid value for n_parallel")
    return value


def threads(text: str) -> int:
    value = integer(text)
    return value if value > 0 else os.cpu_count() or 1


def seed(text: str) -> int:
    return integer(text) % 2**32


def gpu_layers(text: str) -> int:
    return {"auto": -1, "all": -2}.get(text) or integer(text)


def words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def hosts(text: str) -> list[str]:
    if not words(text):
        raise ValueError("--host requires at least one address")
    return words(text)


def content(text: str) -> str:
    try:
        return Path(text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"error: failed to open file '{text}'") from None


def folder(text: str) -> str:
    """Return the folder with the separator that llama.cpp takes for granted."""
    if not os.path.isdir(text):
        raise ValueError("not a directory")
    return os.path.join(text, "")


def keys(text: str) -> list[str]:
    lines = (line.strip() for line in content(text).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def member(enum: str, complaint: str, members: str, **aliases: str) -> Callable[[str], Member]:
    """A parser of one of those words (lower-case members) or aliases to a member of that enum."""
    spelled = {word: word for word in members.split()} | aliases

    def parse(text: str) -> Member:
        word = text.replace("+", "_")
        if word not in spelled:
            raise ValueError(complaint.format(text))
        return Member(enum, f"{enum}_{spelled[word]}".upper())

    return parse


_CACHE_WORDS = "f32 f16 bf16 q8_0 q4_0 q4_1 iq4_nl q5_0 q5_1"
_CACHE_TYPE = member("ggml_type", "Unsupported cache type: {}", _CACHE_WORDS)
_FLASH_ERROR = "error: unknown value for --flash-attn: '{}'"
_FLASH = member("llama_flash_attn_type", _FLASH_ERROR, "auto", on="enabled", off="disabled")
_LOAD_MODE = member("llama_load_mode", "invalid value", "auto none mmap mlock mmap_mlock", dio="direct_io")
_POOLING = member("llama_pooling_type", "invalid value", "none mean cls last rank")

FLAGS: tuple[Flag, ...] = (
    Flag(("-m", "--model"), ("model.path",), str, "LLAMA_ARG_MODEL"),
    Flag(("-mm", "--mmproj"), ("mmproj.path",), str, "LLAMA_ARG_MMPROJ"),
    Flag(("-a", "--alias"), ("model_alias",), lambda text: set(words(text)), "LLAMA_ARG_ALIAS"),
    Flag(("--host",), ("hostnames",), hosts, "LLAMA_ARG_HOST"),
    Flag(("--port",), ("port",), port, "LLAMA_ARG_PORT"),
    Flag(("--api-key",), ("api_keys",), words, "LLAMA_API_KEY"),
    Flag(("--api-key-file",), ("api_keys",), keys, "LLAMA_ARG_API_KEY_FILE"),
    Flag(("-to", "--timeout"), ("timeout_read", "timeout_write"), integer, "LLAMA_ARG_TIMEOUT"),
    Flag(("--threads-http",), ("n_threads_http",), integer, "LLAMA_ARG_THREADS_HTTP"),
    Flag(("--sse-ping-interval",), ("sse_ping_interval",), integer, "LLAMA_ARG_SSE_PING_INTERVAL"),
    Flag(("-t", "--threads"), ("cpuparams.n_threads",), threads, "LLAMA_ARG_THREADS"),
    Flag(("-tb", "--threads-batch"), ("cpuparams_batch.n_threads",), threads),
    Flag(("-c", "--ctx-size"), ("n_ctx",), integer, "LLAMA_ARG_CTX_SIZE"),
    Flag(("-n", "--predict", "--n-predict"), ("n_predict",), integer, "LLAMA_ARG_N_PREDICT"),
    Flag(("-b", "--batch-size"), ("n_batch",), integer, "LLAMA_ARG_BATCH"),
    Flag(("-ub", "--ubatch-size"), ("n_ubatch",), integer, "LLAMA_ARG_UBATCH"),
    Flag(("-np", "--parallel"), ("n_parallel",), slots, "LLAMA_ARG_N_PARALLEL"),
    Flag(("-ngl", "--gpu-layers", "--n-gpu-layers"), ("n_gpu_layers",), gpu_layers, "LLAMA_ARG_N_GPU_LAYERS"),
    Flag(("-fa", "--flash-attn"), ("flash_attn_type",), _FLASH, "LLAMA_ARG_FLASH_ATTN"),
    Flag(("-ctk", "--cache-type-k"), ("cache_type_k",), _CACHE_TYPE, "LLAMA_ARG_CACHE_TYPE_K"),
    Flag(("-ctv", "--cache-type-v"), ("cache_type_v",), _CACHE_TYPE, "LLAMA_ARG_CACHE_TYPE_V"),
    Flag(("-cram", "--cache-ram"), ("cache_ram_mib",), integer, "LLAMA_ARG_CACHE_RAM"),
    Flag(("-lm", "--load-mode"), ("load_mode",), _LOAD_MODE, "LLAMA_ARG_LOAD_MODE"),
    Flag(("--pooling",), ("pooling_type",), _POOLING, "LLAMA_ARG_POOLING"),
    Flag(("--chat-template",), ("chat_template",), str, "LLAMA_ARG_CHAT_TEMPLATE"),
    Flag(("--chat-template-file",), ("chat_template",), content, "LLAMA_ARG_CHAT_TEMPLATE_FILE"),
    Flag(("--slot-save-path",), ("slot_save_path",), folder, "LLAMA_ARG_SLOT_SAVE_PATH"),
    Flag(("-s", "--seed"), ("sampling.seed",), seed),
    Flag(("--temp", "--temperature"), ("sampling.temp",), decimal, "LLAMA_ARG_TEMPERATURE"),
    Flag(("-lv", "--verbosity", "--log-verbosity"), ("verbosity",), integer, "LLAMA_ARG_LOG_VERBOSITY"),
)
SWITCHES: tuple[Switch, ...] = (
    Switch(("--metrics",), (), "endpoint_metrics", "LLAMA_ARG_ENDPOINT_METRICS"),
    Switch(("--props",), (), "endpoint_props", "LLAMA_ARG_ENDPOINT_PROPS"),
    Switch(("--slots",), ("--no-slots",), "endpoint_slots", "LLAMA_ARG_ENDPOINT_SLOTS"),
    Switch(("--jinja",), ("--no-jinja",), "use_jinja", "LLAMA_ARG_JINJA"),
    Switch(("--embedding", "--embeddings"), (), "embedding", "LLAMA_ARG_EMBEDDINGS"),
    Switch(("--warmup",), ("--no-warmup",), "warmup"),
    Switch(("-cb", "--cont-batching"), ("-nocb", "--no-cont-batching"), "cont_batching"),
    Switch(("--context-shift",), ("--no-context-shift",), "ctx_shift", "LLAMA_ARG_CONTEXT_SHIFT"),
    Switch(("--cache-prompt",), ("--no-cache-prompt",), "cache_prompt", "LLAMA_ARG_CACHE_PROMPT"),
    Switch(("-kvu", "--kv-unified"), ("-no-kvu", "--no-kv-unified"), "kv_unified", "LLAMA_ARG_KV_UNIFIED"),
    Switch(("-kvo", "--kv-offload"), ("-nkvo", "--no-kv-offload"), "no_kv_offload", inverted=True),
)


def from_environment(environ: Mapping[str, str]) -> Iterator[Parameter]:
    """The settings of the LLAMA_ARG_* variables and of LLAMA_API_KEY."""
    for flag in FLAGS:
        if flag.env and flag.env in environ:
            yield from _parsed(flag, environ[flag.env], f'environment variable "{flag.env}"')
    for switch in (switch for switch in SWITCHES if switch.env):
        value = environ.get(switch.env)
        if f"LLAMA_ARG_NO_{switch.env.removeprefix('LLAMA_ARG_')}" in environ and switch.off:
            yield switch.attribute, switch.inverted
        elif value in TRUTHY:
            yield switch.attribute, not switch.inverted
        elif value is not None and switch.off:
            if value not in FALSEY:
                sys.exit(f'error while handling environment variable "{switch.env}": invalid boolean value')
            yield switch.attribute, switch.inverted


def from_arguments(arguments: Sequence[str]) -> Iterator[Parameter]:
    """The settings of the flags, in their order: the last one wins."""
    flags = {name: flag for flag in FLAGS for name in flag.names}
    switched = {name: (switch.attribute, not switch.inverted) for switch in SWITCHES for name in switch.on}
    switched |= {name: (switch.attribute, switch.inverted) for switch in SWITCHES for name in switch.off}
    known = sorted([*flags, *switched])
    rest = iter(arguments)
    for given in rest:
        name = given.replace("_", "-") if given.startswith("--") else given
        if name in switched:
            yield switched[name]
        elif name in flags:
            value = next(rest, None)
            if value is None:
                sys.exit(f'error while handling argument "{given}": expected value for argument')
            yield from _parsed(flags[name], value, f'argument "{given}"')
        else:
            sys.exit(f"error: invalid argument: {given}\nThe bundled engine knows: {' '.join(known)}")


def _parsed(flag: Flag, value: str, source: str) -> Iterator[Parameter]:
    try:
        parsed = flag.parse(value)
    except ValueError as error:
        sys.exit(f"error while handling {source}: {error}")
    for attribute in flag.attributes:
        yield attribute, parsed


def apply(settings: Sequence[Parameter], xllamacpp: Any) -> Any:
    """The CommonParams of these settings."""
    params = xllamacpp.CommonParams()
    params.port = DEFAULT_PORT
    params.n_parallel = -1  # llama-server's own default: four slots that share one context
    chosen = dict(settings)
    # Keys of all sources count; threads for prompts follow the others unless they are set.
    chosen["api_keys"] = [key for path, value in settings if path == "api_keys" for key in value]
    if "cpuparams.n_threads" in chosen:
        chosen.setdefault("cpuparams_batch.n_threads", chosen["cpuparams.n_threads"])
    for path, value in chosen.items():
        *owners, attribute = path.split(".")
        target = getattr(params, owners[0]) if owners else params
        if isinstance(value, Member):
            value = getattr(getattr(xllamacpp, value.enum), value.name)
        setattr(target, attribute, value)
    return params


def serve(server: object) -> NoReturn:
    """Wait for SIGTERM or SIGINT, then end with code 0."""
    # A pipe rather than an event: a signal that comes before the wait is not lost.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    os.read(reader, 1)
    print("cleaning up before exit...", file=sys.stderr, flush=True)  # noqa: T201
    # The server is never deleted: that waits for every client, for ever, holding the interpreter's lock.
    os._exit(0)


def usage() -> str:
    """All flags, one of them a line, as `llama-server --help` lists its own."""
    lines = [
        *(f"{', '.join(flag.names)} VALUE{f'  (env: {flag.env})' if flag.env else ''}" for flag in FLAGS),
        *(", ".join([*switch.on, *switch.off]) for switch in SWITCHES),
    ]
    return "\n".join(["Flags of the bundled engine:", "", *lines])


def main() -> NoReturn:
    if sys.argv[1:2] in (["--help"], ["-h"]):
        print(usage())  # noqa: T201
        sys.exit(0)
    # While loading a signal kills, as it does llama-server; Python would hold SIGINT back until afterwards.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    settings = [*from_environment(os.environ), *from_arguments(sys.argv[1:])]
    if not dict(settings).get("model.path"):
        sys.exit("error: the bundled engine needs a model: -m FILE (it has no router mode)")
    try:
        import xllamacpp
    except ImportError as error:
        sys.exit(f"{type(error).__name__}: {error}\nInstall the bundled engine: pip install '.[engine]'")
    try:
        # Returns when the model is loaded; meanwhile /health answers 503.
        server = xllamacpp.Server(apply(settings, xllamacpp))
    except RuntimeError:
        sys.exit(1)  # the server's own log has said why
    serve(server)


if __name__ == "__main__":
    main()
