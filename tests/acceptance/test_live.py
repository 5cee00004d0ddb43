"""What pages and programs are told the moment it happens."""

from __future__ import annotations

import json

import psutil
import pytest
from websockets.exceptions import InvalidStatus

from tests.ports import free_port

REQUEST = json.dumps({"type": "requestLlamaStatus"})


def says_error(message):
    return message["type"] == "error"


def says_status(message):
    return message["type"] == "llama_status"


# --- Events --------------------------------------------------------------------------------------------


def test_a_new_socket_is_told_the_status_at_once(serving):
    with serving.events() as events:
        event = events.next()
    assert event.keys() == {"type", "server", "data", "timestamp"}
    assert (event["type"], event["server"]) == ("llama_status", "default")


def test_the_event_carries_what_the_api_answers(serving):
    with serving.events() as events:
        told = events.next()["data"]
    assert {**told, "uptime": 0} == {**serving.status(), "uptime": 0}


def test_the_timestamp_is_in_milliseconds(serving):
    with serving.events() as events:
        event = events.next()
    assert 0 <= event["timestamp"] / 1000 - psutil.Process(event["data"]["pid"]).create_time() < 3600


def test_a_socket_that_asks_is_told_again(serving):
    with serving.events() as events:
        events.next()
        events.send(REQUEST)
        assert events.next()["data"]["status"] == "ready"


@pytest.mark.parametrize(
    "garbage",
    ["", "{", "[]", '"x"', "null", '{"type": 5}', '{"type": "launch"}', "x" * 5000, b"\xff\x00", "[" * 4000],
    ids=lambda garbage: repr(garbage[:12]),
)
def test_garbage_is_answered_with_an_error_and_the_socket_lives_on(serving, garbage):
    with serving.events() as events:
        events.next()
        events.send(garbage)
        events.wait_for("an error", says_error)
        events.send(REQUEST)
        events.wait_for("the status", says_status)


def test_a_huge_message_costs_its_sender_the_socket_and_nobody_else(serving):
    with serving.events() as other, serving.events() as events:
        events.send("x" * 1_000_000)
        events.until_closed()
        other.send("garbage")
        other.wait_for("an answer", says_error)


def test_many_sockets_at_once_are_all_told(serving):
    sockets = [serving.events() for _ in range(30)]
    try:
        assert {events.next()["data"]["status"] for events in sockets} == {"ready"}
    finally:
        for events in sockets:
            events.close()


def test_two_sockets_are_told_the_same_in_the_same_order(live):
    pid = live.status()["pid"]
    with live.events() as one, live.events() as two:
        psutil.Process(pid).kill()
        for events in (one, two):
            events.wait_for_new_pid(pid)
    assert one.story == two.story


# --- Fragments -----------------------------------------------------------------------------------------


def test_a_page_is_sent_all_servers_to_swap_in(serving):
    with serving.events("") as events:
        html = events.next()
    assert 'id="servers"' in html
    assert 'hx-swap-oob="morph"' in html


def test_a_page_is_sent_each_change_as_a_fragment_of_that_server(live):
    pid = live.status()["pid"]
    with live.events("") as events:
        events.next()
        psutil.Process(pid).kill()
        html = events.wait_for("a fragment", lambda html: 'data-status="crashed"' in html)
        after = live.wait_for_new_pid(pid)["pid"]
        events.wait_for("the new process", lambda html: f"<dd>{after}" in html)
    assert html.lstrip().startswith('<article id="server-default"')


# --- Several servers -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(make_shared, engine, model):
    """`default`, and `second`, which nobody has asked to run."""
    proxy = make_shared(llama_model_path=str(model))
    proxy.start().wait_for_status("ready")
    with proxy.events() as events:
        proxy.server("second", port=free_port(), desired_running=False)
        events.wait_for("the second server", lambda message: message["server"] == "second")
    return proxy


def test_a_server_that_was_added_is_told_to_open_sockets_and_listed(two):
    assert [server["name"] for server in two.get("/api/servers/").json()["servers"]] == ["default", "second"]


def test_a_socket_for_one_server_hears_of_no_other(two):
    with two.events("format=json&server=second") as events:
        events.next()
        two.llama("restart", "default")
        two.wait_for_line("✅ [LLAMA] Service ready", times=2)
        events.send("garbage")
        events.wait_for("an answer", says_error)
        assert {message["server"] for message in events.messages if says_status(message)} == {"second"}


def test_a_socket_for_a_server_that_does_not_exist_hears_nothing(two):
    with two.events("format=json&server=nowhere") as events:
        events.send("garbage")
        events.wait_for("an answer", says_error)
    assert not any(map(says_status, events.messages))


def test_a_server_of_its_own_page_only(two):
    assert 'data-name="default"' not in two.get("/servers/second/").text


def test_a_deleted_server_is_stopped_and_leaves_the_list(make_proxy, model, engine):
    proxy = make_proxy(llama_model_path=str(model))
    proxy.start().wait_for_status("ready")
    with proxy.events("") as events:
        proxy.python(
            "from supervisor_app.fleet.models import LlamaServer; LlamaServer.objects.all().delete()"
        )
        events.wait_for("an empty list", lambda html: "No server yet" in html)
    proxy.wait_for("its process is gone", lambda: not proxy.engines())


# --- Who may listen ------------------------------------------------------------------------------------


def test_a_page_of_somebody_else_may_not_open_a_socket(serving):
    with pytest.raises(InvalidStatus, match="403"):
        serving.events(origin="https://evil.example")


def test_our_own_page_may(serving):
    with serving.events(origin=serving.url) as events:
        assert says_status(events.next())


@pytest.fixture(scope="module")
def private(make_shared, engine, model):
    """An installation whose status needs a login."""
    proxy = make_shared(llama_model_path=str(model))
    proxy.env["LLAMAPROXY_PUBLIC_STATUS"] = "0"
    proxy.start().wait_for_line("✅ [LLAMA] Service ready")
    return proxy


def test_a_private_status_is_not_told_to_a_stranger(private):
    with private.events() as events:
        assert events.until_closed() == 4003
    assert events.messages == []


def test_a_private_api_answers_401_in_json(private):
    answer = private.get("/api/servers/")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "login_required")


def test_a_private_page_asks_for_a_login(private):
    assert "/login/" in private.get("/").url


def test_a_private_status_is_told_to_staff(private):
    client = private.login("staff")
    cookie = f"sessionid={client.cookies['sessionid']}"
    with private.events(additional_headers={"Cookie": cookie}) as events:
        assert says_status(events.next())
