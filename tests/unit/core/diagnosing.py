"""Lines and helpers that tests of the diagnosis share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from supervisor_app.core.diagnosis.diagnose import diagnose
from supervisor_app.core.sightings import Exit
from supervisor_app.core.testing import make_spec

if TYPE_CHECKING:
    from supervisor_app.core.status import Failure

FAILED = Exit(code=1)
BEFORE = [
    "0.00.000.803 I srv  llama_server: initializing ...",
    "0.00.019.542 W srv  llama_server: security: no API key is set and CORS allows all origins",
    # A backend that cannot be loaded is no failure of the server.
    "load_backend: failed to load libggml-cuda.so: libcudart.so.12: cannot open shared object file",
]
GENERIC = [
    "0.00.032.126 E cmn  common_init_: failed to load model '/nope/x.gguf'",
    "0.00.032.128 E srv    load_model: failed to load model, '/nope/x.gguf'",
    "0.00.032.131 I srv    operator(): operator(): cleaning up before exit...",
    "0.00.032.629 E srv  llama_server: exiting due to model loading error",
]
"""Last lines of every load that failed, which must never decide anything."""


def told(ended, lines, *, was_ready, **known) -> Failure:
    return diagnose(ended, lines, was_ready=was_ready, **known).failure


def spec_of(model_path, *args):
    return replace(make_spec(args=("-m", model_path, *args)), model_path=model_path, cwd="/srv")
