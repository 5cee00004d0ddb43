"""What the tables refuse, what forms and the config file are told, what a wish writes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.utils import timezone

from supervisor_app.core.setting import LARGEST
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.fleet.models import LlamaServer, LoginLink, Run, ServerState
from supervisor_app.fleet.run_tables import json_of_failure
from supervisor_app.fleet.validators import validate_api_key, validate_args, validate_host, validate_port
from tests.integration.building import STARTED, at, make_run, make_server, make_state

pytestmark = pytest.mark.django_db


def test_the_migrations_make_the_models():
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


# --- Constraints ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"port": 0}, "llamaserver_port_range"),
        ({"port": 65536}, "llamaserver_port_range"),  # llama-server would take it modulo 65536
        ({"model_path": "", "models_dir": ""}, "llamaserver_has_a_model"),
        ({"generation": 3, "restart_generation": 4}, "llamaserver_restart_not_in_future"),
        ({"name": "taken", "port": 1}, "name"),  # unique over all nodes: it is part of addresses
        ({"node": "here", "port": 8200}, "port"),  # a port has one owner per node
    ],
)
def test_a_bad_server_is_refused(fields, constraint):
    make_server("taken", node="here", port=8200)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        make_server(**{"name": "new", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"port": 1},
        {"port": 65535},
        {"model_path": "", "models_dir": "models"},
        {"generation": 3, "restart_generation": 3},
        {"node": "there", "port": 8200},  # the same port on another node
    ],
)
def test_a_good_server_is_taken(fields):
    make_server("taken", node="here", port=8200)
    make_server(**{"name": "new", **fields})


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"status": "sleeping"}, "serverstate_status_known"),
        ({"status": ""}, "serverstate_status_known"),
        ({"status": "ready", "started_at": None}, "serverstate_ready_has_a_process"),
    ],
)
def test_a_bad_state_is_refused(fields, constraint):
    server = make_server()
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        ServerState.objects.create(server=server, **fields)


@pytest.mark.parametrize("status", Status)
def test_each_status_word_is_taken(status):
    make_state(make_server(), status)


def test_a_server_has_one_state():
    server = make_server()
    make_state(server)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_state(server)


def test_a_server_has_at_most_one_open_run():
    server = make_server()
    make_run(server, ended_at=None)
    with pytest.raises(IntegrityError, match="server"), transaction.atomic():
        make_run(server, ended_at=None)


def test_runs_of_two_servers_may_be_open_and_many_of_one_may_be_closed():
    server = make_server()
    make_run(server)
    make_run(server)
    make_run(server, ended_at=None)
    make_run(make_server("other"), ended_at=None)
    assert Run.objects.open().count() == 2


def test_a_run_ends_with_an_exit_code_or_a_signal():
    server = make_server()
    with pytest.raises(IntegrityError, match="run_exit_code_or_signal"), transaction.atomic():
        make_run(server, exit_code=1, signal=9)
    make_run(server, exit_code=1)
    make_run(server, signal=9)
    make_run(server)  # adopted: nobody told us


def test_a_token_is_kept_once():
    LoginLink.objects.create(token_hash="a")
    with pytest.raises(IntegrityError), transaction.atomic():
        LoginLink.objects.create(token_hash="a")


def test_a_server_takes_its_state_and_history_with_it():
    server = make_server()
    make_state(server)
    make_run(server)
    server.delete()
    assert not ServerState.objects.exists()
    assert not Run.objects.exists()


# --- Validation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"port": 0}, "0 is not a port. Use 1 to 65535."),
        ({"port": 70000}, "70000 is not a port."),
        ({"host": "no host"}, "'no host' is not a host."),
        ({"args": "-c 8192"}, "is not a list of strings"),
        ({"args": ["--port", "1"]}, "--port does not belong here: set the port instead."),
        ({"api_key": "two words"}, "without spaces"),
        ({"model_path": "", "models_dir": ""}, "Set a model path or a models directory."),
        ({"name": "a b"}, "slug"),
        ({"max_retries": -1}, "greater than or equal to 0"),
        ({"retry_backoff_ms": 0}, "greater than or equal to 1"),
        ({"health_check_interval_ms": 49}, "greater than or equal to 50"),
        ({"health_check_timeout_ms": 49}, "greater than or equal to 50"),
        ({"max_health_checks": 0}, "greater than or equal to 1"),
        ({"max_load_seconds": 0}, "greater than or equal to 1"),
        (
            {"retry_backoff_ms": 5000, "max_backoff_ms": 1000},
            "The longest wait (1000 ms) is less than the first (5000 ms).",
        ),
        (
            {"stop_grace_ms": LARGEST + 1},
            f"stop_grace_ms is {LARGEST + 1}: the largest that works is {LARGEST}.",
        ),
    ],
)
def test_a_mistake_is_named(fields, message):
    with pytest.raises(ValidationError) as raised:
        LlamaServer(**{"name": "default", **fields}).full_clean()
    assert message in " ".join(raised.value.messages)


def test_the_defaults_are_valid():
    LlamaServer(name="default").full_clean()


def test_a_port_that_another_server_has_is_named():
    make_server("first", port=9000)
    with pytest.raises(ValidationError, match="Another server of this node has that port"):
        LlamaServer(name="second", port=9000).full_clean()


@pytest.mark.parametrize(
    "host", ["localhost", "0.0.0.0", "127.0.0.1", "::", "::1", "fe80::1", "gpu-1.lan", "a", "::ffff:10.0.0.1"]
)
def test_a_host_is_taken(host):
    validate_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "two words",
        "-v",  # a flag
        "host:",  # neither a name nor an address
        "http://localhost",
        "a/b",
        "localhost\n",
        "ho\0st",
    ],
)
def test_a_host_is_refused_by_name(host):
    with pytest.raises(ValidationError) as raised:
        validate_host(host)
    assert repr(host) in raised.value.message


@pytest.mark.parametrize("port", [1, 80, 8134, 65535])
def test_a_port_is_taken(port):
    validate_port(port)


@pytest.mark.parametrize("args", [[], ["-c", "8192"], ["--alias=a"], [""], ["-ngl", "99", "--jinja"]])
def test_flags_are_taken(args):
    validate_args(args)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (None, "is not a list"),
        ("-c 1", "is not a list"),
        ([1], "is not a list"),
        ([["-c"]], "is not a list"),
        ([None], "is not a list"),
        (["a\0b"], "NUL"),
        (["-m", "x"], "set the model path instead"),
        (["-c 8192"], 'is one word to llama-server. Write it as two: "-c", "8192"'),
        (["--ctx-size  8192"], r'Write it as two: "--ctx-size", "8192"'),
        (["--model", "x"], "set the model path instead"),
        (["--model=x"], "set the model path instead"),
        (["--host", "x"], "set the host instead"),
        (["--port=1"], "set the port instead"),
        (["--models-dir", "x"], "set the models directory instead"),
        (["--api-key", "x"], "set the API key"),
        (["-c", "1", "--api-key=x"], "set the API key"),
        (["--api_key", "x"], "set the API key"),  # llama-server takes _ for -
        (["--models_dir=x"], "set the models directory instead"),
    ],
)
def test_flags_are_refused_with_the_reason(args, message):
    with pytest.raises(ValidationError, match=message):
        validate_args(args)


@pytest.mark.parametrize("key", ["", "sk-123", "!#$%&'()*+-./:;<=>?@[]^_`{|}~"])
def test_an_api_key_is_taken(key):
    validate_api_key(key)


@pytest.mark.parametrize(
    "key",
    [
        "a b",
        "a,b",  # LLAMA_API_KEY would be two keys
        "schlüssel",  # no HTTP header holds it
        "a\n",
        "a\0",
    ],
)
def test_an_api_key_is_refused_without_repeating_it(key):
    with pytest.raises(ValidationError) as raised:
        validate_api_key(key)
    assert key not in raised.value.message


# --- Wishes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "running", "restart_generation"),
    [("ask_to_start", True, 0), ("ask_to_stop", False, 0), ("ask_to_restart", True, 6)],
)
@pytest.mark.parametrize("before", [True, False])
def test_a_wish_raises_the_generation_whatever_was_wished_before(ask, running, restart_generation, before):
    make_server(generation=5, desired_running=before)
    assert getattr(LlamaServer.objects.all(), ask)() == 1
    server = LlamaServer.objects.get()
    assert (server.desired_running, server.generation) == (running, 6)
    assert server.restart_generation == restart_generation


def test_wishes_add_up():
    make_server()
    servers = LlamaServer.objects.all()
    servers.ask_to_restart()
    servers.ask_to_stop()
    servers.ask_to_start()
    server = servers.get()
    assert (server.generation, server.restart_generation, server.desired_running) == (4, 2, True)


def test_a_wish_reaches_the_chosen_servers_only():
    make_server("one")
    make_server("two")
    assert LlamaServer.objects.filter(name="one").ask_to_stop() == 1
    assert LlamaServer.objects.get(name="two").generation == 1


def test_a_wish_for_nobody_is_counted_as_that():
    assert LlamaServer.objects.filter(name="nobody").ask_to_start() == 0


# --- Words ---------------------------------------------------------------------------------------------


def test_a_new_server_belongs_to_this_node(settings):
    settings.LLAMAPROXY_NODE = "gpu-7"
    assert make_server().node == "gpu-7"


def test_servers_of_a_node_are_told_apart():
    make_server("mine", node="a")
    make_server("other", node="b")
    assert [server.name for server in LlamaServer.objects.on_node("a")] == ["mine"]


def test_rows_say_what_they_are():
    server = make_server()
    assert str(server) == "default"
    assert str(make_state(server)) == "default: initial"
    assert str(make_run(server)) == "default, 2025-06-15 15:06:40"
    assert str(LoginLink(created_at=at(STARTED))) == "made 2025-06-15 15:06"


def test_uptime_of_a_run():
    server = make_server()
    assert make_run(server).uptime == timedelta(seconds=60)
    assert make_run(server, ended_at=at(STARTED - 5)).uptime == timedelta(0), "a clock was set back"
    running = make_run(server, started_at=timezone.now() - timedelta(minutes=1), ended_at=None)
    assert timedelta(seconds=60) <= running.uptime < timedelta(seconds=90)


def test_runs_that_got_ready_are_told_apart():
    server = make_server()
    make_run(server)
    ready = make_run(server, ready_at=at(STARTED + 1))
    assert list(Run.objects.reached_ready()) == [ready]


def test_the_failure_of_a_run_in_the_words_of_the_contract():
    server = make_server()
    assert json_of_failure(make_run(server)) is None
    failed = make_run(
        server, failure_kind=FailureKind.HUNG, failure_title="t", failure_detail="d", failure_hint="h"
    )
    assert json_of_failure(failed) == {"kind": "hung", "title": "t", "detail": "d", "hint": "h"}


@pytest.mark.parametrize(
    ("said", "args", "own"),
    [
        (None, [], True),
        ("", [], False),
        # It asks for a key in any case.
        ("", ["--api_key-file", "keys"], True),
        ("sk-said", ["--api-key-file", "keys"], False),
    ],
)
def test_which_key_a_server_asks_for(said, args, own):
    server = LlamaServer(api_key=said, args=args)
    assert server.key == (server.own_key if own else said)
