"""What the database knows of servers, as the gateway wants it."""

from __future__ import annotations

from datetime import timedelta
from signal import SIGABRT, SIGKILL, SIGSEGV, SIGTERM

import pytest

from supervisor_app.core.loaded import Loaded
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.gateway.edge import survey
from supervisor_app.gateway.edge.recent_runs import COUNT as RUNS
from supervisor_app.gateway.edge.survey import load_facts
from supervisor_app.gateway.llama.listing import listing_of
from supervisor_app.gateway.servers.facts import Load
from supervisor_app.traffic.models import ModelList
from tests.integration.building import MODEL, STARTED, at, make_run, make_server, make_state

pytestmark = pytest.mark.django_db

SERVED = {"served": [MODEL.as_json()]}


def facts(overlay=None):
    """Of the only server."""
    (found,) = load_facts(overlay or Overlay()).values()
    return found


# --- What it is ----------------------------------------------------------------------------------------


def test_a_server_that_no_supervisor_has_looked_at_is_known_all_the_same():
    make_server(node="gpu-7", model_path="", models_dir="/models")
    known = facts()
    assert (known.name, known.node, known.version) == ("default", "gpu-7", 0)
    assert (known.status, known.url, known.pid, known.run) == (Status.INITIAL, "", None, None)
    assert known.detail == "No supervisor has looked after it yet."
    assert (known.models, known.offered) == (("default",), ())


def test_the_facts_of_a_server_are_those_its_supervisor_published():
    state = {"version": 7, "detail": "Serving 1 model.", "url": "http://gpu-1:8134", "pid": 11}
    make_state(make_server(), "ready", **state)
    known = facts()
    assert known.ready
    assert (known.version, known.detail, known.url, known.pid) == tuple(state.values())


def test_facts_for_the_gateway_are_those_people_configured():
    make_server(api_key="hunter2", max_concurrent=3, max_queue=4, hold_seconds=5)
    known = facts()
    assert (known.api_key, known.capacity, known.max_queue, known.hold_seconds) == ("hunter2", 3, 4, 5)


def test_the_servers_of_all_nodes_are_known_by_name():
    for name in ("a", "b"):
        make_server(name, node=f"node-{name}")
    assert {name: known.node for name, known in load_facts(Overlay()).items()} == {
        "a": "node-a",
        "b": "node-b",
    }


def test_the_servers_take_three_queries_however_many_there_are(django_assert_num_queries):
    for name in ("a", "b", "c"):
        server = make_server(name)
        make_state(server, "ready", **SERVED)
        for number in range(RUNS + 2):
            make_run(server, ready_at=at(STARTED + number), failure_kind=FailureKind.EXITED)
    with django_assert_num_queries(3):
        load_facts(Overlay())


@pytest.mark.parametrize(
    ("fields", "wanted", "wakes"),
    [
        ({}, True, False),
        ({"desired_running": False}, False, False),
        ({"desired_running": False, "stopped_for_idleness": True}, False, True),
    ],
    ids=["runs", "stopped", "idle"],
)
def test_a_row_says_whether_its_server_is_wanted_and_may_be_woken(fields, wanted, wakes):
    make_server(**fields)
    assert (facts().wanted, facts().wakes) == (wanted, wakes)


def test_the_config_file_wins_for_the_server_default():
    make_server(api_key="mine", aliases=["old"], hold_seconds=1)
    make_server("other", api_key="its own")
    overlay = Overlay(values={"api_key": "hunter2", "aliases": ["new"], "hold_seconds": 9})
    known = load_facts(overlay)
    default = known["default"]
    assert (default.api_key, default.offered[0], default.hold_seconds) == ("hunter2", "new", 9)
    assert known["other"].api_key == "its own"
    assert LlamaServer.objects.get(name="default").api_key == "mine"


# --- Its names -----------------------------------------------------------------------------------------


def test_a_server_that_is_down_goes_by_its_name_its_aliases_and_its_file():
    make_server(model_path="/models/Qwen3-8B-Q4.gguf", aliases=["chat", "fast"])
    known = facts()
    assert known.offered == ("chat",)
    assert known.models == (
        "default",
        "chat",
        "fast",
        "Qwen3-8B-Q4.gguf",
        "/models/Qwen3-8B-Q4.gguf",
        "Qwen3-8B-Q4",
    )


def say(server, *ids, read_at=5.0, launch=None):
    """A gateway has read its list, with this configuration."""
    listing = listing_of(
        {"data": [{"id": name, "meta": {"n_ctx": 7}} for name in ids], "models": []}, read_at
    )
    survey.keep_listing(server.name, launch or survey.launch_of(server), listing)
    return listing


@pytest.mark.parametrize(
    ("fields", "id"),
    [
        ({"model_path": "/models/qwen3.gguf"}, "default"),
        ({"model_path": "/models/qwen3.gguf", "aliases": ["chat", "fast"]}, "chat"),
        ({"model_path": "/models/qwen3.gguf", "args": ["-a", "named, second"]}, "named"),
        ({"model_path": "/models/qwen3.gguf", "args": ["-a", "/models/qwen3.gguf,named"]}, "named"),
        ({"model_path": "/models/qwen3.gguf", "args": ["-c", "1", "--alias"]}, "default"),
    ],
)
@pytest.mark.parametrize("status", [None, *Status])
def test_a_model_has_one_id_whatever_its_server_does_and_says(fields, id, status):
    server = make_server(**fields)
    if status is not None:
        make_state(server, status, served=[{**MODEL.as_json(), "id": "/models/qwen3.gguf"}])
        assert facts().offered == (id,)
        say(server, "/models/qwen3.gguf")
    known = facts()
    assert known.offered == (id,)
    assert {"default", "qwen3", "qwen3.gguf", "/models/qwen3.gguf"} <= set(known.models)


def test_several_servers_of_one_file_offer_one_model():
    make_server("a", model_path="/models/qwen3.gguf", node="one")
    make_server("b", model_path="/models/qwen3.gguf", node="two")
    make_server("c", model_path="/other/qwen3.gguf")
    make_server("d", model_path="", models_dir="/models")
    offered = {name: known.offered for name, known in load_facts(Overlay()).items()}
    assert offered == {"a": ("qwen3",), "b": ("qwen3",), "c": ("c",), "d": ()}


def test_a_list_of_models_is_kept_while_its_server_is_down():
    server = make_server(model_path="/models/qwen3.gguf")
    make_state(server, Status.CRASHED)
    listing = say(server, "org/qwen3:Q4")
    known = facts()
    assert known.listing == listing
    assert "org/qwen3:Q4" in known.models
    say(server, "something newer", read_at=6.0)
    assert facts().listing.ids == ("something newer",)


@pytest.mark.parametrize(
    "changed", [{"model_path": "/models/other.gguf"}, {"args": ["-a", "named"]}], ids=["a file", "an alias"]
)
def test_a_list_from_before_a_change_of_the_configuration_counts_no_more(changed):
    server = make_server(model_path="/models/qwen3.gguf")
    say(server, "/models/qwen3.gguf")
    LlamaServer.objects.update(**changed)
    known = facts()
    assert known.listing.ids == ()
    assert ("/models/qwen3.gguf" in known.models) is ("model_path" not in changed)


def test_nothing_is_kept_of_a_server_that_is_gone():
    server = make_server()
    launch = survey.launch_of(server)
    server.delete()
    say(server, "x", launch=launch)
    assert not ModelList.objects.exists()


@pytest.mark.parametrize("flag", ["-a", "--alias"])
def test_names_on_the_command_line_are_known_before_the_server_says_them(flag):
    make_server(args=["-c", "8192", flag, "qwen3, big,,"])
    known = facts()
    assert known.offered == ("qwen3",)
    assert {"qwen3", "big"} < set(known.models)


def test_no_name_is_offered_twice():
    make_state(make_server(aliases=[MODEL.id], args=["-a", MODEL.id]), "ready", **SERVED)
    assert facts().offered == (MODEL.id,)


def test_a_router_goes_by_its_models_once_it_says_them():
    state = make_state(make_server(model_path="", models_dir="/models"), "starting")
    assert facts().models == ("default",)
    state.served = [{**MODEL.as_json(), "id": name} for name in ("a", "b")]
    state.save()
    assert (facts().models, facts().offered) == (("default", "a", "b"), ("a", "b"))
    told = {"data": [{"id": "c", "aliases": ["see"], "status": {"value": "unloaded"}}]}
    survey.keep_listing("default", facts().launch, listing_of(told, 5.0))
    assert (facts().models, facts().offered) == (("default", "c", "see"), ("c",))


def test_a_router_that_is_down_still_goes_by_the_models_it_served():
    server = make_server(model_path="", models_dir="/models")
    make_state(server, status=Status.CRASHED)
    make_run(server, evidence={"models": ["older"]}, ended_at=at(1))
    make_run(server, evidence={"models": ["gemma", "qwen"]}, ended_at=at(2))
    make_run(server, ended_at=at(3))  # it died before it served anything
    assert facts().offered == ("gemma", "qwen")
    assert {"gemma", "qwen"} < set(facts().models)


@pytest.mark.parametrize(
    ("fields", "served", "is_router"),
    [
        ({"model_path": "/models/qwen3.gguf"}, [], False),
        ({"model_path": "/models/qwen3.gguf"}, ["qwen3"], False),
        ({"model_path": "/models/qwen3.gguf", "aliases": ["chat", "fast"]}, ["qwen3"], False),
        ({"model_path": "/models/qwen3.gguf", "args": ["-a", "chat,fast"]}, [], False),
        ({"model_path": "/models/qwen3.gguf"}, ["adopted", "router"], True),
        ({"model_path": "", "models_dir": "/models"}, [], True),
        ({"model_path": "", "models_dir": "/models"}, ["alone"], True),
        ({"model_path": "/models/qwen3.gguf", "args": ["--models-preset", "a.ini"]}, ["alone"], True),
        ({"model_path": "/models/qwen3.gguf", "args": ["--models_preset", "a.ini"]}, ["alone"], True),
    ],
)
def test_only_a_router_has_several_models_however_many_names_they_have(fields, served, is_router):
    models = [{**MODEL.as_json(), "id": name} for name in served]
    make_state(make_server(**fields), "ready", served=models)
    assert facts().is_router is is_router


def test_a_server_that_tells_whether_its_model_is_loaded_is_a_router():
    make_state(make_server(), "ready", served=[{**MODEL.as_json(), "status": "unloaded"}])
    assert facts().is_router


@pytest.mark.parametrize(
    ("args", "is_verbose"),
    [
        ([], False),
        (["-v"], True),
        (["--verbose"], True),
        (["--log_verbose"], True),
        (["-lv", "10"], True),
        (["--verbosity", "9"], False),
        (["--log-verbosity", "99"], True),
        (["-lv"], False),
        (["-lv", "many"], False),
    ],
)
def test_a_server_that_is_started_to_be_verbose_is(args, is_verbose):
    make_state(make_server(args=args), "ready")
    assert facts().is_verbose is is_verbose


# --- Its runs ------------------------------------------------------------------------------------------


def test_the_run_that_is_open_is_the_present_one():
    server = make_server()
    make_run(server)
    run = make_run(server, ended_at=None, pid=11)
    known = facts()
    assert known.run == run.pk
    assert run.pid not in known.ends


def test_an_end_is_told_with_its_reason():
    run = make_run(
        make_server(), failure_kind=FailureKind.EXITED, failure_title="Ended by itself", exit_code=1, pid=11
    )
    assert facts().ends[run.pid].sentence == "Ended by itself"


@pytest.mark.parametrize(
    ("fields", "blameless"),
    [
        ({"exit_code": 0}, True),  # it was asked to
        ({"failure_kind": FailureKind.KILLED_BY_SIGNAL, "signal": SIGKILL}, True),
        ({"failure_kind": FailureKind.KILLED_BY_SIGNAL, "signal": SIGTERM}, True),
        ({"failure_kind": FailureKind.KILLED_BY_SIGNAL, "signal": SIGSEGV}, False),
        ({"failure_kind": FailureKind.KILLED_BY_SIGNAL, "signal": SIGABRT}, False),
        ({"failure_kind": FailureKind.OOM_KILLED, "signal": SIGKILL}, False),
        ({"failure_kind": FailureKind.EXITED, "exit_code": 1}, False),
        ({"failure_kind": FailureKind.HUNG, "signal": SIGKILL}, True),
        ({"failure_kind": FailureKind.NEVER_READY, "signal": SIGKILL}, True),
        ({"failure_kind": FailureKind.UNKNOWN}, False),
        # Of one that is not our child nobody is told how it ended.
        ({"failure_kind": FailureKind.UNKNOWN, "adopted": True}, True),
    ],
    ids=lambda value: "-".join(str(part) for part in value.values()) if isinstance(value, dict) else "",
)
def test_requests_are_suspected_only_of_an_end_that_came_from_inside(fields, blameless):
    run = make_run(make_server(), pid=11, **fields)
    assert facts().ends[run.pid].blameless is blameless


def test_only_the_newest_lives_of_each_server_are_looked_at():
    servers = [make_server(name) for name in ("a", "b")]
    for server in servers:
        for pid in range(1, RUNS + 4):
            make_run(server, pid=pid)
    for known in load_facts(Overlay()).values():
        assert set(known.ends) == set(range(4, RUNS + 4))


def test_the_newer_of_two_runs_with_the_same_pid_counts():
    server = make_server()
    for kind in (FailureKind.EXITED, FailureKind.HUNG):
        make_run(server, pid=11, failure_kind=kind, failure_title=kind.value)
    assert facts().ends[11].sentence == "hung"


def test_the_time_of_the_supervisors_next_try_is_known():
    state = make_state(make_server(), "crashed", next_retry_at=at(30))
    assert facts().retry_at == at(30).timestamp()
    state.next_retry_at = None
    state.save()
    assert facts().retry_at is None


def test_the_time_of_a_start_is_the_median_of_the_last_starts():
    server = make_server()
    for seconds in (1, 2, 60):
        make_run(server, ready_at=at(STARTED) + timedelta(seconds=seconds))
    make_run(server)  # never got ready
    make_run(server, ready_at=at(STARTED), adopted=True)  # was ready before we saw it
    assert facts().start_seconds == 2


def test_a_server_that_never_got_ready_says_nothing_of_how_long_a_start_takes():
    make_run(make_server())
    assert facts().start_seconds is None


def test_how_long_the_process_that_runs_has_loaded():
    server = make_server()
    make_run(server, ready_at=at(1), ended_at=at(2), loaded=Loaded(load_ms=9).as_json())
    assert facts().load is None
    make_run(server, ready_at=at(5), ended_at=None, loaded=Loaded(room_ms=250, load_ms=1500).as_json())
    assert facts().load == Load(ready_at=at(5).timestamp(), room_seconds=0.25, load_seconds=1.5)
