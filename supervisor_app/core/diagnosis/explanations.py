"""Kinds of failures in plain words: what each is, and what to do. Pure."""

from __future__ import annotations

from typing import NamedTuple

from supervisor_app.core.status import Failure, FailureKind


class Explanation(NamedTuple):
    """Title and hint of every failure of one kind, and whether a retry is no use."""

    permanent: bool
    title: str
    hint: str


CANNOT_RUN = "llama-server cannot be run"
"""The title where something is there, but does not run."""
MEMORY_HINT = "Try a smaller context (-c) or model, or end something else that uses memory."
LOG_HINT = "Read its log for what came before."

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
    FailureKind.DOWNLOAD_FAILED: Explanation(
        False,
        "The model could not be downloaded",
        "It is tried again until the network is there. If it goes on, look at the name in llama_server_args "
        "(-hf, -mu) and at the network; -hft gives a token for models that need one.",
    ),
    FailureKind.PORT_TAKEN: Explanation(
        True,
        "Address not available",
        "End what listens there, or change llama_server_host or llama_server_port.",
    ),
    FailureKind.DOES_NOT_FIT: Explanation(
        True,
        "Does not fit into memory",
        "Try a smaller context (-c) or model, or give it more room: end other programs, pin fewer servers, "
        "or raise the budget in [memory] of llamaproxy.toml.",
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
    FailureKind.KILLED_BY_SIGNAL: Explanation(False, "Ended by a signal", LOG_HINT),
    FailureKind.EXITED: Explanation(
        False,
        "Unexpected end",
        "Something else may have stopped it; flags such as --help or --version end it at once, too.",
    ),
    FailureKind.HOST_LOST: Explanation(
        False,
        "Host lost",
        "Look whether it has power and a network, and start its supervisor. Servers there may serve on.",
    ),
    FailureKind.UNKNOWN: Explanation(False, "Failed for an unknown reason", LOG_HINT),
}


def failure_of(kind: FailureKind, detail: str = "") -> Failure:
    """Make a failure of this kind. `detail`: what exactly happened."""
    permanent, title, hint = EXPLANATIONS[kind]
    return Failure(kind=kind, permanent=permanent, title=title, detail=detail, hint=hint)
