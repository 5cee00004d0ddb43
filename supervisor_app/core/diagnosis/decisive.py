"""The line that tells why llama-server ended. Pure.

Its very last lines ("failed to load model", "exiting due to model loading error") are the same for nearly all
causes and never used; the decisive line comes earlier. The lines are those of llama.cpp b11669 and of the
builds before it, each from its beginning: a line that has such words further on quotes them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor_app.core.status import FailureKind as Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervisor_app.core.diagnosis.engine_log import LogLine

_GPU = r"(?:CUDA|ROCm|Vulkan|Metal|MTL|SYCL|HIP)\d*"
_LOADING = r"(?:error: |error loading model(?: \w+)?: |llama_model_loader: |done_getting_tensors: )*"
_PATH = r"(?P<path>.{1,600}?)"
_OPEN = rf"{_LOADING}failed to open (?:GGUF file )?(?P<quote>'?){_PATH}(?P=quote)(?:: | \()"
_HANDLING = r'error while handling (?:argument|environment variable) "(?P<flag>[^"]{1,100})": '
_ROUTER = r"failed to initialize router models: "
_SOURCE = r"\S{0,200}?[\w-]+\.(?:c|cc|cpp|cu|cuh|h|hpp|inl|m|metal):\d+: "
_VULKAN = r"(?:what\(\):\s+)?(?:vk::\S{1,200}: )?(?:Error|VK_ERROR_)?"

BEGINNINGS: dict[Kind, tuple[str, ...]] = {
    # The loader, before llama-server's own first word. A backend that could not be loaded ("failed to
    # load libggml-cuda.so: …") is no failure: it goes on without.
    Kind.LIBRARY_MISSING: (
        r"(?:\S{1,300}: )?error while loading shared libraries: ",
        r"\S{1,300}: symbol lookup error: ",
        r"(?:\S{1,300}: ){1,2}version `\S+' not found",
        r"dyld\[\d+\]: \w+ not (?:loaded|found)",
        r"(?:ModuleNotFoundError|ImportError): ",
    ),
    # Flags, and the files that they name.
    Kind.BAD_ARGUMENT: (
        rf"{_HANDLING}(?:error: )?failed to open file '{_PATH}'$",
        rf"{_HANDLING}not a directory: {_PATH}$",
        _HANDLING,
        r"error while handling ",
        r"error: (?:invalid|unknown) argument(?:: (?P<flag>\S{1,100}))?",
        r"error: the supplied chat template is not supported: ",
        rf"MCP starting failed: failed to open MCP config file: {_PATH}$",
        r"MCP starting failed: ",
        r"(?:init: )?failed to parse UI config: ",
        rf"{_ROUTER}error: '{_PATH}' does not exist or is not a directory",
        rf"{_ROUTER}preset file does not exist: {_PATH}$",
        rf"{_ROUTER}failed to parse server config file: {_PATH}$",
        _ROUTER,
        rf"static assets path not found: {_PATH}$",
        r"quantized \w+ cache requires flash_attn",
        r"\w+ cache type \S+ with block size \d+ does not divide n_embd_head",
    ),
    Kind.PORT_TAKEN: (r"couldn't bind (?:HTTP server socket|to server socket)",),
    # A model that it fetches itself.
    Kind.DOWNLOAD_FAILED: (
        r"failed to download model: ",
        r"(?:get_repo_commit: |error: )*HTTPLIB failed: ",
        r"(?:get_repo_files: )?failed to resolve commit for ",
        r"(?:common_docker_resolve_model: )?Docker Model download failed: ",
        r"(?:\w+: )?curl_easy_perform\(\) failed: ",
        r"(?:error: )?failed to (?:get manifest|download model from) ",
        r"error: cannot make GET request",
    ),
    # The model, and other files like it.
    Kind.MODEL_MISSING: (_OPEN + r"No such file or directory",),
    Kind.MODEL_UNREADABLE: (_OPEN + r"(?:Permission denied|Operation not permitted|Is a directory)",),
    Kind.MODEL_CORRUPT: (
        _LOADING + r"invalid magic characters",
        _LOADING + r"tensor '.{1,300}' data is not within the file bounds",
        _LOADING + r"model is corrupted or incomplete",
        _LOADING + r"failed to read (?:magic|header|key-value pairs|tensor)",
    ),
    Kind.MODEL_UNSUPPORTED: (
        _LOADING + r"unknown (?:model architecture|pre-tokenizer type)",
        _LOADING + r"GGUFv\d+ is no longer supported",
        _LOADING + r"this GGUF file is version",
        _LOADING + r"tensor '.{1,300}' has invalid ggml type",
        _LOADING + r"wrong number of tensors",
        _LOADING + r"key not found in model: ",
        _LOADING + r"(?:check_tensor_dims: tensor|missing tensor) '",
        r"failed to apply lora adapter: ",
        rf"error: Failed to load CLIP model from {_PATH}$",
    ),
    # The GPU.
    Kind.GPU_OUT_OF_MEMORY: (
        r"(?:allocating [\d.]{1,20} MiB on device \d+: )?\w*Malloc\w* failed: out of memory",
        rf"{_GPU} error: out of memory",
        rf"{_LOADING}(?:unable|failed) to allocate {_GPU} buffer",
        _VULKAN + r"(?:OutOfDeviceMemory|OUT_OF_DEVICE_MEMORY)",
        r"error: Insufficient Memory \(\w+:kIOGPUCommandBufferCallbackErrorOutOfMemory",
    ),
    Kind.GPU_LOST: (
        _VULKAN + r"(?:DeviceLost|DEVICE_LOST)",
        rf"{_GPU} error: \S",
    ),
    # Memory.
    Kind.OUT_OF_MEMORY: (
        _LOADING + r"mmap failed: Cannot allocate memory",
        r"(?:failed to initialize the context: |what\(\):\s+)?std::bad_alloc",
        _LOADING + r"(?:unable|failed) to allocate (?:(?:\S+ )?buffer|compute)",
        r"insufficient memory \(attempted to allocate",
    ),
    # llama.cpp's own end.
    Kind.KILLED_BY_SIGNAL: (
        rf"(?:{_SOURCE})?GGML_(?:ASSERT[(:]|ABORT)",
        _SOURCE + r"fatal error",
        r"terminate called (?:after throwing an instance|without an active exception)",
    ),
    Kind.EXITED: (r"Received second interrupt",),
}
"""Beginnings of decisive messages by kind, most telling first: the first that fits a line names its kind."""
PATTERNS = tuple((re.compile(each), kind) for kind, beginnings in BEGINNINGS.items() for each in beginnings)

_NAMES_A_FILE = re.compile(
    _LOADING + r"[Ff]ailed to load (?:CLIP model|model|GGUF split|lora adapter|draft model|multimodal model)"
    rf"(?:, | from | )(?P<quote>'?){_PATH}(?P=quote)(?::|$)"
)
"""Lines that name the file that llama-server could not use, which earlier lines do not."""
ABOUT_A_FILE = frozenset(
    {Kind.MODEL_MISSING, Kind.MODEL_UNREADABLE, Kind.MODEL_CORRUPT, Kind.MODEL_UNSUPPORTED}
)
_VAGUE = frozenset({Kind.KILLED_BY_SIGNAL, Kind.EXITED, Kind.DOWNLOAD_FAILED})
"""Kinds that say that the server ended itself or went on without something: another line may tell why."""


@dataclass(frozen=True, kw_only=True)
class Decisive:
    kind: Kind
    line: LogLine
    path: str = ""
    """The file that it names, as it is written."""
    flag: str = ""


def is_telling(line: LogLine) -> bool:
    """Would it tell a cause, if llama-server wrote it?"""
    return line.may_tell and any(pattern.match(line.message) for pattern, _ in PATTERNS)


def find_decisive(lines: Sequence[LogLine], *, last: bool, router: bool = False) -> Decisive | None:
    """The first decisive line, or the last one: before it was ready the later ones are consequences.

    A router looks into all of its models and goes on without those that it cannot use.
    """
    found = [
        judged
        for place, line in enumerate(lines)
        if (judged := _judge(line, lines[place + 1 :])) and not (router and judged.kind in ABOUT_A_FILE)
    ]
    if last:
        return found[-1] if found else None
    return next((judged for judged in found if judged.kind not in _VAGUE), found[0] if found else None)


def _judge(line: LogLine, later: Sequence[LogLine]) -> Decisive | None:
    if not line.may_tell:
        return None
    for pattern, kind in PATTERNS:
        if told := pattern.match(line.message):
            named = told.groupdict()
            path = named.get("path") or (_path_in(later) if kind in ABOUT_A_FILE else "")
            return Decisive(kind=kind, line=line, path=path, flag=named.get("flag") or "")
    return None


def _path_in(lines: Iterable[LogLine]) -> str:
    named = (_NAMES_A_FILE.match(line.message) for line in lines)
    return next((found["path"] for found in named if found), "")
