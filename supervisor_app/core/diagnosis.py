"""From how a process ended and what it wrote last to one `Failure` in plain words. Pure.

llama-server exits with 1 for nearly everything, so the text has to tell the causes apart. What it writes
at the very end ("failed to load model", "exiting due to model loading error") is the same for all of them
and never used; the decisive line comes earlier. The lines are those of llama.cpp b11669 and
of the builds before it.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from supervisor_app.core.sightings import Exit
from supervisor_app.core.status import Failure, FailureKind

MAX_DETAIL = 300
"""Characters of a decisive line that are shown."""
MAX_LINE = 1000
"""Characters of a line that are looked at. The decisive ones are short; a runaway one must not cost time."""


class Explanation(NamedTuple):
    """What is said about every failure of one kind."""

    permanent: bool
    title: str
    hint: str


MEMORY_HINT = "Try a smaller context (-c) or model, or end something else that uses memory."
_LOG_HINT = "Read its log for what came before."

EXPLANATIONS: dict[FailureKind, Explanation] = {
    FailureKind.BINARY_MISSING: Explanation(
        True,
        "llama-server not found",
        "Check llama_server_binary, or install llama.cpp: https://github.com/ggml-org/llama.cpp.",
    ),
    FailureKind.LIBRARY_MISSING: Explanation(
        True,
        "A library that llama-server needs is missing",
        "Install the library (libgomp.so.1 is Debian's package libgomp1), or reinstall llama.cpp with it.",
    ),
    FailureKind.BAD_ARGUMENT: Explanation(
        True,
        "llama-server refused a flag",
        "Check llama_server_args against `llama-server --help`: flags come and go between versions.",
    ),
    FailureKind.MODEL_MISSING: Explanation(
        True,
        "Model file missing",
        "Check llama_model_path, or put the model there: it starts by itself when the file appears.",
    ),
    FailureKind.MODEL_UNREADABLE: Explanation(
        True,
        "Model file not readable",
        "Check llama_model_path and the rights of the file and of the folders above it.",
    ),
    FailureKind.MODEL_CORRUPT: Explanation(
        True,
        "Model file broken or incomplete",
        "If a download is still running, let it end; otherwise download it again. It must be a GGUF file.",
    ),
    FailureKind.MODEL_UNSUPPORTED: Explanation(
        True,
        "Model not supported by this llama-server",
        "Update llama.cpp, or choose a model that this version knows.",
    ),
    FailureKind.PORT_TAKEN: Explanation(
        True,
        "Address not available",
        "End what listens there, or change llama_server_host or llama_server_port.",
    ),
    FailureKind.OUT_OF_MEMORY: Explanation(False, "Out of memory", MEMORY_HINT),
    FailureKind.OOM_KILLED: Explanation(False, "Killed because memory ran out", MEMORY_HINT),
    FailureKind.GPU_OUT_OF_MEMORY: Explanation(
        False,
        "Out of GPU memory",
        "Try fewer layers on the GPU (-ngl), a smaller context (-c), or end something else that uses it.",
    ),
    FailureKind.GPU_LOST: Explanation(
        False,
        "The GPU failed",
        "If it comes again, look for the driver's message with `dmesg`; a GPU reset or a reboot may help.",
    ),
    FailureKind.NEVER_READY: Explanation(
        False,
        "It never became ready",
        "Read its log; a large model on a slow disk may need a larger max_load_seconds.",
    ),
    FailureKind.HUNG: Explanation(
        False,
        "It stopped answering",
        "If it comes again, read its log and look at the load of the machine and of the GPU.",
    ),
    FailureKind.KILLED_BY_SIGNAL: Explanation(False, "Ended by a signal", _LOG_HINT),
    FailureKind.EXITED: Explanation(
        False,
        "Unexpected end",
        "Something else may have stopped it; flags such as --help or --version end it at once, too.",
    ),
    FailureKind.UNKNOWN: Explanation(False, "Failed for an unknown reason", _LOG_HINT),
}


def failure_of(kind: FailureKind, detail: str = "") -> Failure:
    """The failure of this kind, `detail` being what exactly happened."""
    permanent, title, hint = EXPLANATIONS[kind]
    return Failure(kind=kind, permanent=permanent, title=title, detail=detail, hint=hint)


# --- What it wrote -------------------------------------------------------------------------------------

_GPU = r"(?:CUDA|ROCm|Vulkan|Metal|MTL|SYCL|HIP)\d*"
_OPEN = r"(?:gguf|model)[^(]{0,60}failed to open .*"

PATTERNS: tuple[tuple[re.Pattern[str], FailureKind], ...] = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        # The loader, before llama-server's own first word. A backend that could not be loaded ("failed to
        # load libggml-cuda.so: …") is no failure: it goes on without.
        (r"error while loading shared libraries:|symbol lookup error:", FailureKind.LIBRARY_MISSING),
        (r"version `\S+' not found|^dyld\[\d+\]: \w+ not (?:loaded|found)", FailureKind.LIBRARY_MISSING),
        (r"^(?:ModuleNotFoundError|ImportError): ", FailureKind.LIBRARY_MISSING),
        (r"^error: (?:invalid|unknown) argument|^error while handling ", FailureKind.BAD_ARGUMENT),
        (r"requires flash_attn|does not divide n_embd_head", FailureKind.BAD_ARGUMENT),
        (r"couldn't bind (?:HTTP server socket|to server socket)", FailureKind.PORT_TAKEN),
        (_OPEN + r"No such file or directory", FailureKind.MODEL_MISSING),
        (_OPEN + r"(?:Permission denied|not permitted|Is a directory)", FailureKind.MODEL_UNREADABLE),
        (r"invalid magic characters|model is corrupted or incomplete", FailureKind.MODEL_CORRUPT),
        (r"failed to read (?:magic|header|key-value pairs|tensor)", FailureKind.MODEL_CORRUPT),
        (r"unknown model architecture|unknown pre-tokenizer type", FailureKind.MODEL_UNSUPPORTED),
        (r"GGUFv\d+ is no longer supported|this GGUF file is version", FailureKind.MODEL_UNSUPPORTED),
        (
            r"has invalid ggml type|wrong number of tensors|key not found in model: ",
            FailureKind.MODEL_UNSUPPORTED,
        ),
        (r"check_tensor_dims: tensor|missing tensor '", FailureKind.MODEL_UNSUPPORTED),
        (rf"Malloc\w* failed: out of memory|{_GPU} error: out of memory", FailureKind.GPU_OUT_OF_MEMORY),
        (rf"(?:unable|failed) to allocate {_GPU} buffer", FailureKind.GPU_OUT_OF_MEMORY),
        (r"OutOfDeviceMemory|CallbackErrorOutOfMemory", FailureKind.GPU_OUT_OF_MEMORY),
        (r"DeviceLost|NVRM: Xid|fallen off the bus", FailureKind.GPU_LOST),
        (rf"{_GPU} error: \S", FailureKind.GPU_LOST),
        (r"mmap failed: Cannot allocate memory|std::bad_alloc", FailureKind.OUT_OF_MEMORY),
        (r"(?:unable|failed) to allocate (?:(?:\S+ )?buffer|compute)", FailureKind.OUT_OF_MEMORY),
        (r"insufficient memory \(attempted to allocate", FailureKind.OUT_OF_MEMORY),
        (r"GGML_ASSERT\(|GGML_ABORT|^what\(\): ", FailureKind.KILLED_BY_SIGNAL),
        (r"Received second interrupt", FailureKind.EXITED),
    )
)
"""What a decisive line says, most telling first: the first that fits a line names its kind."""

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# `0.00.031.945 E gguf_init_from_file: ` or `0.00.009.858 E srv         start: `; older builds: no time.
_PREFIX = re.compile(
    r"^(?:\d+\.\d\d\.\d{3}\.\d{3} [A-Z] )?(?:(?:srv|slot|que|res|cmn) +\S+: |\w*_\w*(?:\(\))?: )?"
)
_ERROR = re.compile(r"^\d+\.\d\d\.\d{3}\.\d{3} E |error loading model: ")
_ADDRESS = re.compile(r"hostname[:=] ?(?P<host>\S*?),? port[:=] ?(?P<port>\d+)")
_SIZES: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"buffer of size (\d{1,18})"), 1),
    (re.compile(r"allocating (\d{1,12}(?:\.\d+)?) MiB"), 2**20),
    (re.compile(r"attempted to allocate +(\d{1,12}(?:\.\d+)?) MB"), 2**20),
)
_UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def _readable(line: str) -> str:
    """The line, bounded and without colours."""
    return _ANSI.sub("", line[:MAX_LINE]).strip()


def _message(line: str) -> str:
    """A readable line without llama.cpp's log prefix, fit for a page and a database."""
    text = _PREFIX.sub("", line, count=1) or line
    # Unprintable includes NUL, which PostgreSQL refuses, and lone surrogates, which cannot be encoded.
    text = "".join(char if char.isprintable() else " " for char in text).strip()
    return text if len(text) <= MAX_DETAIL else text[: MAX_DETAIL - 1] + "…"


def _decisive(lines: Iterable[str]) -> tuple[FailureKind, str] | None:
    for line in lines:
        for pattern, kind in PATTERNS:
            if pattern.search(line):
                return kind, line
    return None


def _telling(
    exit: Exit,  # noqa: A002
    readable: Sequence[str],
    was_ready: bool,
) -> tuple[FailureKind, str] | None:
    if exit.code == 0:
        return None
    return _decisive(reversed(readable) if was_ready else readable)


def decisive_line(exit: Exit, lines: Sequence[str], *, was_ready: bool) -> str:  # noqa: A002
    """The line that `diagnose` goes by, as it was written; empty when none tells the cause."""
    told = _telling(exit, [_readable(line) for line in lines], was_ready)
    return told[1] if told else ""


def _amount(line: str) -> str:
    """The memory that the line asks for, as `5.1 GiB`; empty when it does not say."""
    for pattern, factor in _SIZES:
        if found := pattern.search(line):
            return amount(float(found[1]) * factor)
    return ""


def amount(size: float) -> str:
    """Bytes in words: `5.1 GiB`."""
    for unit, scale in _UNITS:
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} bytes"


def _told(kind: FailureKind, line: str, model_path: str | None) -> Failure:
    """The failure that a decisive line tells."""
    message = _message(line)
    failure = failure_of(kind, message)
    if kind is FailureKind.KILLED_BY_SIGNAL:
        return replace(failure, hint=_CRASH_HINT)
    if kind is FailureKind.PORT_TAKEN:
        if address := _ADDRESS.search(line):
            message = f"could not listen on {address['host']} port {address['port']}"
        # A port in use, an unknown host and a port that needs root all end with this line: the next look
        # at the port says which it is.
        return replace(failure, permanent=False, detail=message)
    if kind in (FailureKind.OUT_OF_MEMORY, FailureKind.GPU_OUT_OF_MEMORY) and (wanted := _amount(line)):
        return replace(failure, detail=f"it needs {wanted} more ({message})")
    if kind is FailureKind.MODEL_CORRUPT and model_path and model_path not in message:
        return replace(failure, detail=f"{message} ({model_path[-MAX_DETAIL:]})")
    return failure


# --- How it ended --------------------------------------------------------------------------------------

_CRASH_HINT = "A bug in llama.cpp or in a driver: if it comes again, update llama.cpp and read its log."
_KILL_HINT = "Usually the kernel's OOM killer, because memory ran out: look with `dmesg`. " + MEMORY_HINT
_SENT_HINT = "Somebody or something else on this machine ended it."
_SIGNALS: dict[int, tuple[str, str]] = {
    signal.SIGKILL: ("SIGKILL, without a word", _KILL_HINT),
    signal.SIGBUS: (
        "SIGBUS: the model file most likely changed, shrank or became unreadable under it",
        "Check the model file and its disk. Replace a model by renaming a new file over it.",
    ),
    signal.SIGSEGV: ("SIGSEGV: it crashed", _CRASH_HINT),
    signal.SIGABRT: ("SIGABRT: it crashed", _CRASH_HINT),
    signal.SIGILL: ("SIGILL: the processor lacks an instruction", "Install a llama.cpp built for it."),
    signal.SIGTERM: ("SIGTERM, sent by something else", _SENT_HINT),
    signal.SIGINT: ("SIGINT, sent by something else", _SENT_HINT),
    signal.SIGHUP: ("SIGHUP, sent by something else", _SENT_HINT),
}
_NOT_RUN = (126, 127)
"""What a shell says of a command that it cannot run or find: for a llama-server that is a script."""


def signal_of(exit: Exit) -> int | None:  # noqa: A002
    """The signal it died of; a wrapping shell says 128 + signal instead."""
    if exit.signal is not None:
        return exit.signal
    if exit.code is not None and exit.code - 128 in _SIGNALS:
        return exit.code - 128
    return None


def _ended(exit: Exit, lines: Sequence[str], was_ready: bool) -> Failure:  # noqa: A002
    """The failure when no line tells the cause."""
    number = signal_of(exit)
    if number is not None:
        detail, hint = _SIGNALS.get(number, (f"signal {number}", _LOG_HINT))
        return replace(failure_of(FailureKind.KILLED_BY_SIGNAL, detail), hint=hint)
    if exit.code is None:
        return failure_of(FailureKind.EXITED, "how it ended is unknown, because it was not started here")
    if exit.code == 0:
        return failure_of(FailureKind.EXITED, "it ended by itself with code 0")
    words = _last_words(lines, was_ready)
    if exit.code in _NOT_RUN and not was_ready:
        return failure_of(FailureKind.BINARY_MISSING, words or f"code {exit.code}")
    detail = f"it ended with code {exit.code}" + (f", its last words: {words}" if words else "")
    return failure_of(FailureKind.EXITED if was_ready else FailureKind.UNKNOWN, detail)


def _last_words(lines: Sequence[str], was_ready: bool) -> str:
    """The last line; before it was ready the first error, because the later ones follow from it."""
    said = [line for line in lines if line]
    errors = [line for line in said if _ERROR.search(line)]
    return _message(errors[0] if errors and not was_ready else said[-1]) if said else ""


def diagnose(
    exit: Exit,  # noqa: A002
    lines: Sequence[str],
    *,
    was_ready: bool,
    model_path: str | None = None,
) -> Failure:
    """Why a process ended that nobody asked to.

    `lines` is the end of what it wrote, oldest first. Before it was ready the first decisive line counts:
    the later ones are its consequences. After, the last one does: what it survived is not what it died of.
    A signal, or a death after having been ready, is never permanent.
    """
    readable = [_readable(line) for line in lines]
    decisive = _telling(exit, readable, was_ready)
    failure = _told(*decisive, model_path) if decisive else _ended(exit, readable, was_ready)
    if was_ready or signal_of(exit) is not None:
        return replace(failure, permanent=False)
    return failure
