"""Cost and gain of a kept conversation: `python -m tests.bench.contexts [--rounds 10] [--padding-mb 200]`.

A conversation on a model made by the tests. Its server ends and starts again, with the conversation restored and
without, in turns: the time of saving and restoring, and of the first token of the next answer.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import requests

from supervisor_app.core.machine.contexts import restore, save
from supervisor_app.core.machine.slot_files import clear, make_folder
from supervisor_app.core.spec import LaunchSpec
from supervisor_app.engine.demo_model import make_demo_model
from supervisor_app.engine.resolve import find_engine
from tests.ports import free_port

if TYPE_CHECKING:
    from supervisor_app.core.context.saved import Kept

DEADLINE = 120.0
WORDS = "alpha beta gamma delta " * 75
"""Most of what the context of the model holds."""
POLL = 0.005


class Engine:
    """A llama-server, from its start to its end."""

    def __init__(self, command: tuple[str, ...], model: Path, folder: Path) -> None:
        port = free_port()
        args = ("-m", str(model), "--host", "127.0.0.1", "--port", str(port), "-t", "1", "-np", "1")
        args = (*args, "--slot-save-path", str(folder))
        self.spec = LaunchSpec(
            host="127.0.0.1",
            port=port,
            command=command,
            args=args,
            model_path=str(model),
            slot_dir=str(folder),
        )
        self.process = subprocess.Popen(
            [*command, *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self.started_at = time.time()
        self._until_ready()

    def _until_ready(self) -> None:
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            try:
                if requests.get(f"{self.spec.url}/health", timeout=1).status_code == requests.codes.ok:
                    return
            except requests.ConnectionError:
                time.sleep(POLL)
        raise SystemExit("llama-server did not get ready")

    def ask(self, words: str) -> dict[str, Any]:
        """Ask for one token; return its timings, with the milliseconds that the client saw."""
        begun = time.monotonic()
        body = {"prompt": words, "n_predict": 1, "temperature": 0}
        answer = requests.post(f"{self.spec.url}/completion", json=body, timeout=DEADLINE)
        answer.raise_for_status()
        return {**answer.json()["timings"], "seen_ms": (time.monotonic() - begun) * 1000}

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(DEADLINE)


def one_round(
    command: tuple[str, ...], model: Path, folder: Path, *, keep: bool
) -> tuple[Kept, Kept, dict[str, Any]]:
    """Talk, end, start, go on. Return what was saved and restored, and the timings of the next answer."""
    make_folder(folder)
    clear(folder)
    engine = Engine(command, model, folder)
    engine.ask(WORDS)
    saved = save(engine.spec, engine.started_at, DEADLINE)
    engine.end()
    if not keep:
        clear(folder)
    engine = Engine(command, model, folder)
    restored = restore(engine.spec, DEADLINE)
    timings = engine.ask(f"{WORDS} and more")
    engine.end()
    return saved, restored, timings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--padding-mb", type=int, default=0, help="makes each token cost more")
    options = parser.parse_args()
    engine = find_engine(None)
    if engine is None:
        raise SystemExit("install llama.cpp")
    with tempfile.TemporaryDirectory() as directory:
        model = make_demo_model(Path(directory, "demo.gguf"), options.padding_mb)
        time.sleep(0.1)  # a file as young as the process might be another one
        folder = Path(directory, "slots", "demo")
        rounds: dict[bool, list[tuple[Kept, Kept, dict[str, Any]]]] = {True: [], False: []}
        for _ in range(options.rounds):
            for keep in (True, False):
                rounds[keep].append(one_round(engine.command, model, folder, keep=keep))
    saved, restored, _ = zip(*rounds[True], strict=True)
    print(
        f"conversation  {sum(saved[0].tokens)} tokens, {saved[0].bytes / 1024:.0f} KiB, medians of {options.rounds}"
    )
    print(f"save          {median(kept.seconds for kept in saved) * 1000:.1f} ms")
    print(f"restore       {median(kept.seconds for kept in restored) * 1000:.1f} ms")
    for keep, title in ((True, "restored"), (False, "without")):
        timings = [each for _, _, each in rounds[keep]]
        computed = median(each["prompt_n"] for each in timings)
        print(
            f"next answer   {title}: {median(each['seen_ms'] for each in timings):.1f} ms, {computed:.0f} computed"
        )


if __name__ == "__main__":
    main()
