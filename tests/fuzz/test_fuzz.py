"""The fuzzer's targets hold on their seeds; with `FUZZ_SECONDS=60 pytest tests/fuzz` on what it makes up, too."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import NO_ATHERIS
from tests.fuzz.targets import SEEDS, TARGETS

ROOT = Path(__file__).parents[2]
SECONDS = os.environ.get("FUZZ_SECONDS", "")


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_holds_on_each_beginning_of_its_seeds(name):
    for seed in SEEDS[name]:
        for end in range(len(seed) + 1):
            TARGETS[name](seed[:end])


@pytest.mark.skipif(not SECONDS, reason="FUZZ_SECONDS=60 looks for so long in each target")
@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason=NO_ATHERIS)
@pytest.mark.timeout(float(SECONDS or 0) + 120)
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_that_is_made_up_breaks_a_target(name, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"{number}").write_bytes(seed)
    options = [f"-max_total_time={SECONDS}", "-max_len=512", f"-artifact_prefix={tmp_path}/"]
    found = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, str(corpus), *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    assert found.returncode == 0, found.stdout[-5000:]
