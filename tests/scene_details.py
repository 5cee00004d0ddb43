"""Logs and requests of servers, for pictures: `python -m tests.scene_details SERVER`, after `tests.scenes`."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

from django.utils import timezone

LINES = """\
0.00.000.412 I main: build: 11669 (9b2fa3a) with cc (Debian 14.2.0-19) 14.2.0
0.00.031.127 I srv  load_model: loading model '/srv/models/gemma-3-12b-it-q6_k.gguf'
0.00.208.551 I llama_model_loader: loaded meta data with 36 key-value pairs and 626 tensors
0.02.914.030 I load_tensors: offloaded 49/49 layers to GPU
0.02.914.112 I load_tensors:        CUDA0 model buffer size =  9361.30 MiB
0.03.120.840 I llama_context: n_ctx_per_seq (8192) < n_ctx_train (131072)
0.03.640.199 I srv  init: initializing slots, n_slots = 4
0.03.641.002 I main: server is listening on http://127.0.0.1:8135
0.09.220.418 I slot launch_slot_: id  0 | task 12 | processing task
0.11.871.630 I slot print_timing: id  0 | task 12 | prompt eval time = 812.40 ms / 2048 tokens
0.12.004.771 I srv  log_server_r: request: POST /v1/chat/completions 127.0.0.1 200
1.44.310.005 W slot update_slots: id  2 | task 97 | cache is full, the oldest tokens are dropped
2.10.771.348 I slot launch_slot_: id  1 | task 131 | processing task
2.10.990.617 E ggml_backend_cuda_buffer_type_alloc_buffer: allocating 1280.00 MiB failed
2.10.990.702 E cudaMalloc failed: out of memory
"""
ASKED = (
    # outcome, ms to the first token, ms, tokens in, of them cached, tokens out
    ("ok", 412.0, 8_900.0, 2048, 1920, 371),
    ("ok", 96.0, 2_100.0, 310, 290, 84),
    ("replayed", 9_420.0, 17_800.0, 4096, 0, 402),
    ("cancelled", 380.0, 4_200.0, 1800, 1750, 151),
    ("ok", 1_240.0, 22_600.0, 12_288, 8_192, 903),
    ("unavailable", None, 30_000.0, None, None, None),
)


def draw(name: str) -> None:
    from supervisor_app.fleet.logfiles import log_of
    from supervisor_app.fleet.models import LlamaServer
    from supervisor_app.traffic.models import RequestRecord

    log = Path(log_of(LlamaServer.objects.get(name=name)).path)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(LINES)
    for number, (outcome, ttft, lasted, prompt, cached, generated) in enumerate(ASKED):
        RequestRecord.objects.create(
            at=timezone.now() - timedelta(minutes=3 * number + 1),
            server=name,
            model=name,
            key=("chat UI", "nightly job")[number % 2],
            method="POST",
            route="/v1/chat/completions",
            status=200 if ttft else 503,
            outcome=outcome,
            ttft_ms=ttft,
            duration_ms=lasted,
            prompt_tokens=prompt,
            cached_tokens=cached,
            generated_tokens=generated,
            tokens_per_second=generated / (lasted - ttft) * 1000 if ttft and generated else None,
        )


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llamaproxy.settings")
    import django

    django.setup()
    draw(sys.argv[1])
