"""The config file as it was last good: whatever happens to the file, nothing forgets what it said."""

from __future__ import annotations

import json
import logging

import pytest

from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.config_file import read_overlay
from supervisor_app.fleet.config_source import ConfigSource, keep_last_good, kept_at, last_good
from supervisor_app.fleet.logfiles import log_of
from supervisor_app.gateway.edge.survey import load_facts
from tests.integration.building import make_ready_server

GOOD = '{"llama_server_port": 9000, "llama_api_key": "sk-hush-hush", "model_aliases": ["chat"]}'
VALUES = {"port": 9000, "api_key": "sk-hush-hush", "aliases": ["chat"]}


@pytest.fixture(autouse=True)
def own_data_dir(settings, tmp_path):
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir(mode=0o700)


@pytest.fixture
def kept(tmp_path):
    return kept_at()


@pytest.fixture
def source(config_file, kept, caplog):
    """The supervisor's."""
    caplog.set_level(logging.INFO, "supervisor_app.fleet.config_source")
    config_file.write_text(GOOD)
    return ConfigSource(config_file, kept, first=read_overlay(config_file))


def breaks(file):
    file.write_text("{")


def vanishes(file):
    file.unlink()


def unreadable(file):
    file.write_bytes(b"\xff\xfe")


def directory(file):
    file.unlink()
    file.mkdir()


def wrong(file):
    file.write_text('{"llama_server_port": 70000}')


ACCIDENTS = pytest.mark.parametrize("happens", [breaks, vanishes, unreadable, directory, wrong])


def test_a_file_that_stays_is_not_read_again(source, caplog):
    assert source().values == source().values == VALUES
    assert caplog.messages == []


def test_a_change_is_taken_over_and_said_once(source, config_file, caplog):
    config_file.write_text('{"llama_server_port": 9001, "max_retries": 1}')
    assert source().values == {"port": 9001, "max_retries": 1}
    source()
    assert caplog.messages == [f"📝 [CONFIG] {config_file} was changed"]


def test_a_config_file_that_appears_is_taken_over(config_file, kept):
    source = ConfigSource(config_file, kept, first=Overlay())
    assert source().values == {}
    config_file.write_text('{"max_retries": 1}')
    assert source().values == {"max_retries": 1}


@ACCIDENTS
def test_a_file_that_goes_bad_is_told_once_and_its_last_good_settings_stay(
    happens, source, config_file, caplog
):
    happens(config_file)
    assert source().values == source().values == VALUES
    assert len(caplog.messages) == 1
    assert str(config_file) in caplog.messages[0]


def test_a_config_file_that_comes_back_counts_again(source, config_file):
    config_file.unlink()
    source()
    config_file.write_text('{"llama_server_port": 9002}')
    assert source().values == {"port": 9002}


def test_a_mistake_is_mended(source, config_file, caplog):
    breaks(config_file)
    source()
    assert f"{config_file} is not JSON" in caplog.messages[0]
    assert "Going on with what it said before." in caplog.messages[0]
    config_file.write_text('{"llama_server_port": 9002}')
    assert source().values == {"port": 9002}


def test_settings_of_the_demo_win(config_file, kept):
    config_file.write_text('{"max_retries": 1, "llama_model_path": "a.gguf"}')
    demo = Overlay(values={"model_path": "demo.gguf"})
    source = ConfigSource(config_file, kept, first=read_overlay(config_file), extra=demo)
    assert source().values == {"max_retries": 1, "model_path": "demo.gguf"}


@pytest.mark.parametrize("happens", [vanishes, breaks, lambda file: file.write_text("{}")])
def test_a_process_of_a_supervisor_tells_once_what_happens_to_the_file(happens, config_file, caplog):
    caplog.set_level(logging.INFO, "supervisor_app.fleet.config_source")
    config_file.write_text(GOOD)
    assert last_good().values == VALUES
    demo = Overlay(values={"model_path": "demo.gguf"})
    source = keep_last_good(read_overlay(config_file), demo)
    happens(config_file)
    assert source().values == {**last_good().values, "model_path": "demo.gguf"}
    assert len(caplog.messages) == 1


# --- Everybody else ------------------------------------------------------------------------------------


@ACCIDENTS
def test_a_running_process_goes_on_with_its_settings(happens, config_file):
    config_file.write_text(GOOD)
    assert last_good().values == VALUES
    happens(config_file)
    assert last_good().values == VALUES


@ACCIDENTS
def test_a_process_that_starts_meanwhile_knows_what_the_supervisor_kept(happens, source, config_file, kept):
    happens(config_file)
    assert ConfigSource(config_file, kept)().values == VALUES


def test_the_newest_good_version_of_a_changed_file_is_kept(source, config_file, kept):
    config_file.write_text('{"llama_server_port": 9001}')
    source()
    breaks(config_file)
    source()
    assert ConfigSource(config_file, kept)().values == {"port": 9001}


def test_the_kept_configuration_is_its_owner_s_alone(source, kept):
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_start_without_a_file_forgets_what_was_kept(source, config_file, kept):
    config_file.unlink()
    ConfigSource(config_file, kept, first=Overlay())
    assert not kept.exists()
    assert ConfigSource(config_file, kept)().values == {}


def test_a_configuration_kept_of_another_file_does_not_count(source, tmp_path, kept):
    assert ConfigSource(tmp_path / "other.json", kept)().values == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"path": 1, "text": 2}', json.dumps({"text": "{"})])
def test_a_kept_configuration_that_cannot_be_read_is_nothing(text, config_file, kept):
    kept.write_text(text)
    assert ConfigSource(config_file, kept)().values == {}


def test_a_file_whose_settings_cannot_be_kept_still_counts(config_file, tmp_path, caplog):
    config_file.write_text(GOOD)
    nowhere = tmp_path / "none" / "kept.json"
    assert ConfigSource(config_file, nowhere, first=read_overlay(config_file))().values == VALUES
    assert "is not kept" in caplog.text


def test_the_executable_of_the_environment_counts_without_a_file(config_file, kept, monkeypatch):
    monkeypatch.setenv("LLAMA_SERVER_BINARY", "/opt/llama-server")
    assert ConfigSource(config_file, kept)().binary == "/opt/llama-server"


@ACCIDENTS
@pytest.mark.django_db
def test_gateway_and_log_keep_names_and_key(happens, config_file):
    config_file.write_text(GOOD)
    server = make_ready_server("default")
    last_good()
    happens(config_file)
    facts = load_facts(last_good())["default"]
    assert "chat" in facts.offered
    assert facts.api_key == "sk-hush-hush"
    assert "sk-hush-hush" in log_of(server).secrets
