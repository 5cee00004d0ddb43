"""Real engines that say what a test wants them to."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from supervisor_app.engine import demo_model
from tests.deadline import DEADLINE
from tests.integration.engine.running import Running, command_of

ENGINES = ["llama-server", "bundled"]
TEMPLATE = Path(__file__).with_name("chat.jinja")
END = "</s>"


@contextmanager
def engine(name, directory, *flags):
    """Run an engine until it is ready: on the demo model, unless `flags` name another or a directory of them."""
    pytest.importorskip("gguf", reason="pip install '.[engine]'")
    if not {"-m", "--models-dir"} & set(flags):
        flags = ("-m", str(demo_model.make_demo_model(directory / "demo.gguf")), *flags)
    running = Running(command_of(name), directory / "engine.log", "-t", "1", *flags)
    try:
        running.until(200)
        yield running
    finally:
        running.process.kill()
        running.process.wait(10)


def make_model_that_says(path, *pieces, padding_mb=0, context=demo_model.CONTEXT):
    """Make a model that answers everything with these tokens, in this order, and then ends. No piece twice.

    At most 63 pieces; with padding it takes its time for each.
    """
    pytest.importorskip("gguf", reason="pip install '.[engine]'")
    vocabulary = demo_model.make_vocabulary
    words = tuple((piece.replace(" ", "▁"),) for piece in pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_model, "_CLASSES", (*words, (END,)))
        patch.setattr(demo_model, "CONTEXT", context)
        # The end has its token already.
        patch.setattr(demo_model, "make_vocabulary", lambda: _without_the_last(END, vocabulary()))
        return demo_model.make_demo_model(path, padding_mb)


def _without_the_last(word, tokens):
    last = max(number for number, (text, *_) in enumerate(tokens) if text == word)
    return tokens[:last] + tokens[last + 1 :]


def post(running, path, body, content_type="application/json"):
    """Status and bytes of the answer; `body` is bytes, or what to make JSON of."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = f"http://127.0.0.1:{running.port}{path}"
    answer = requests.post(url, data, headers={"Content-Type": content_type}, timeout=DEADLINE)
    return answer.status_code, answer.content
