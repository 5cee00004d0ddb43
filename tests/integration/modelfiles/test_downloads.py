"""Downloads of a node: real processes, and a stand-in of the hub."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from io import StringIO
from pathlib import Path

import psutil
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.model_rules import ModelRules
from supervisor_app.library.hub.part import part_of_file
from supervisor_app.modelfiles.asking import NoAnswerError, ask_download, look_up, wish_of
from supervisor_app.modelfiles.downloads import Downloads
from supervisor_app.modelfiles.fetcher import COMMAND
from supervisor_app.modelfiles.models import Download, ModelFile, State
from tests.deadline import DEADLINE
from tests.hub import COMMIT, REPOSITORY, stand_in

pytestmark = pytest.mark.django_db(transaction=True)
NODE = "here"
NAME = "Tiny-Q4_K_M.gguf"
DATA = os.urandom(1_000_000)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with stand_in({NAME: DATA, "mmproj-F16.gguf": b"sees"}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


@pytest.fixture
def target(tmp_path):
    return tmp_path / "models" / REPOSITORY / NAME


@pytest.fixture
def downloads(tmp_path):
    rules = ModelRules(models_dir=str(tmp_path / "models"))
    downloads = Downloads(NODE, lambda: Overlay(models=rules))
    yield downloads
    downloads.leave()


def until(downloads, row, what) -> Download:
    """Look until something can be said of the row."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        downloads.look()
        row.refresh_from_db()
        if what(row):
            return row
        time.sleep(0.02)
    raise AssertionError(f"{row}: {row.state}, {row.done} of {row.total}, {row.trouble}{row.error}")


def state(wanted):
    return lambda row: row.state == wanted


def test_a_repository_is_looked_up_in_a_process_of_its_own(hub):
    listing = look_up(f"{hub.url}/{REPOSITORY}")
    assert [choice.label for choice in listing.choices] == ["Q4_K_M"]
    hub.files = {"model.safetensors": b"no"}
    with pytest.raises(NoAnswerError, match="has no GGUF file"):
        look_up(REPOSITORY)


def test_a_model_and_its_projector_are_fetched(hub, downloads, target):
    row = ask_download(NODE, REPOSITORY, "", projector=True, who="boss")
    until(downloads, row, state(State.DONE))
    assert target.read_bytes() == DATA
    assert (target.parent / "mmproj-F16.gguf").read_bytes() == b"sees"
    assert (row.chosen, row.commit, row.done, row.total) == ("Q4_K_M", COMMIT, len(DATA) + 4, len(DATA) + 4)
    assert row.ended_at is not None


def test_a_pause_ends_the_process_and_a_wish_goes_on_where_it_was(hub, downloads, target):
    hub.bytes_per_second = 400_000
    row = ask_download(NODE, REPOSITORY, "q4_k_m")
    until(downloads, row, lambda row: row.done > 0)
    wish_of(row, "pause")
    until(downloads, row, state(State.PAUSED))
    here = part_of_file(target).stat().st_size
    assert 0 < here < len(DATA)
    assert not target.exists()
    hub.bytes_per_second = 0
    wish_of(row, "resume")
    until(downloads, row, state(State.DONE))
    assert hub.asked[-1] == (NAME, f"bytes={here}-")
    assert target.read_bytes() == DATA


def test_a_cancelled_download_leaves_nothing_and_can_be_asked_for_again(hub, downloads, target):
    hub.bytes_per_second = 400_000
    row = ask_download(NODE, REPOSITORY, "")
    until(downloads, row, lambda row: row.done > 0)
    wish_of(row, "cancel")
    until(downloads, row, state(State.CANCELLED))
    assert not target.parent.exists()
    hub.bytes_per_second = 0
    assert ask_download(NODE, REPOSITORY, "").pk == row.pk
    until(downloads, row, state(State.DONE))


def test_a_process_that_is_killed_is_followed_by_one_that_goes_on(hub, downloads, target):
    hub.bytes_per_second = 400_000
    row = ask_download(NODE, REPOSITORY, "")
    until(downloads, row, lambda row: row.done > 0)
    (fetcher,) = (child for child in psutil.Process().children() if child.cmdline() == list(COMMAND))
    fetcher.kill()
    hub.bytes_per_second = 0
    until(downloads, row, state(State.DONE))
    assert hub.asked[-1][1].startswith("bytes=")
    assert target.read_bytes() == DATA


def test_a_wrong_checksum_fails_and_a_retry_gets_the_right_file(hub, downloads, target):
    hub.lies = True
    row = ask_download(NODE, REPOSITORY, "")
    until(downloads, row, state(State.FAILED))
    assert "another checksum" in row.error
    assert list(target.parent.iterdir()) == []
    hub.lies = False
    wish_of(row, "retry")
    until(downloads, row, state(State.DONE))
    assert target.read_bytes() == DATA


def test_a_gated_repository_fails_with_what_to_do_and_no_token_is_kept(hub, downloads, monkeypatch):
    hub.token = "hf_right"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    row = ask_download(NODE, REPOSITORY, "")
    until(downloads, row, state(State.FAILED))
    assert f"Accept its licence at {hub.url}/{REPOSITORY}" in row.error
    assert "hf_wrong" in hub.tokens
    kept = Download.objects.values().get()
    assert "hf_wrong" not in str(kept)


def test_a_second_download_waits_for_the_first(hub, downloads):
    hub.bytes_per_second = 100_000
    first = ask_download(NODE, REPOSITORY, "")
    second = ask_download(NODE, REPOSITORY, "Q4_K_M")
    until(downloads, first, state(State.RUNNING))
    second.refresh_from_db()
    assert second.state == State.WANTED


def test_the_end_of_a_supervisor_leaves_downloads_for_the_next_one(hub, downloads):
    hub.bytes_per_second = 100_000
    row = ask_download(NODE, REPOSITORY, "")
    until(downloads, row, state(State.RUNNING))
    downloads.leave()
    row.refresh_from_db()
    assert row.state == State.WANTED


def test_a_download_that_is_over_is_forgotten_after_a_week(downloads):
    row = ask_download(NODE, REPOSITORY, "")
    Download.objects.update(state=State.DONE, ended_at=timezone.now() - timedelta(days=6))
    downloads.prune()
    assert Download.objects.filter(pk=row.pk).exists()
    Download.objects.update(ended_at=timezone.now() - timedelta(days=8))
    downloads.prune()
    assert not Download.objects.exists()


# --- manage.py llama pull, llama models ----------------------------------------------------------------


@pytest.fixture
def data(settings, tmp_path):
    settings.DATA_DIR, settings.LLAMAPROXY_NODE = tmp_path, NODE
    return tmp_path


def run(*words, **options) -> str:
    out = StringIO()
    call_command("llama", *words, stdout=out, **options)
    return out.getvalue()


def test_a_command_without_a_supervisor_downloads_by_itself(hub, data):
    assert f"{REPOSITORY}:Q4_K_M is here." in run("pull", REPOSITORY)
    assert Path(data, "models", REPOSITORY, NAME).read_bytes() == DATA
    assert ModelFile.objects.get().path.endswith(NAME)
    assert "Tiny-Q4_K_M" in run("models")
    assert '"quantization": "Q4_K_M"' in run("models", as_json=True)


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [("nonsense", 2, "is no repository"), (f"{REPOSITORY}:Q9_9", 1, "has no Q9_9. It has Q4_K_M.")],
)
def test_a_command_says_what_is_wrong(hub, data, said, code, words):
    with pytest.raises(CommandError, match=words) as told:
        run("pull", said)
    assert told.value.returncode == code


def test_without_models_the_command_says_how_to_get_one(data):
    assert "llama pull" in run("models")
