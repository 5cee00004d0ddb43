"""What the gateway answers itself, and whom it lets in."""

from __future__ import annotations

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.access.door import Door
from supervisor_app.gateway.llama.operations import Scope
from tests.integration.building import eventually
from tests.integration.gateway.plane import EMBEDDINGS, question, request, with_key
from tests.integration.gateway.scripts import answers

HOME = "http://localhost:3000"
PREFLIGHT = [f"Origin: {HOME}", "Access-Control-Request-Method: POST"]


@pytest.mark.parametrize("path", ["/health", "/v1/health"])
async def test_the_health_of_the_gateway_tells_how_many_servers_are_ready(plane, path):
    assert (await plane.ask(request(path))).json == {"status": "ok", "servers": 0, "ready": 0}
    await plane.serve(answers(), name="a")
    await plane.serve(answers(), name="b", status=Status.CRASHED)
    assert (await plane.ask(request(path))).json == {"status": "ok", "servers": 2, "ready": 1}


@pytest.mark.parametrize("path", ["/heal%74h", "/v1%2Fmodels", "/v1/models%2Fdefault", "/%6Detrics"])
async def test_our_own_paths_are_ours_in_other_letters_too(plane, path):
    server = await plane.serve(answers())
    assert (await plane.ask(request(path))).status == 200
    assert not server.calls


async def test_a_path_that_can_be_read_in_two_ways_goes_nowhere(plane):
    server = await plane.serve(answers())
    caller = await plane.connect()
    answer = await caller.ask(request("/metrics#", method="GET"))
    assert (answer.status, answer.error["code"]) == (400, "bad_request")
    assert await caller.is_cut_off()
    assert not server.calls


async def test_the_gateways_own_answers_are_not_recorded(plane):
    await plane.serve(answers())
    for path in ("/health", "/v1/models", "/metrics"):
        assert (await plane.ask(request(path))).status == 200
    await plane.ask(question())
    assert [record.route for record in await plane.records(1)] == [EMBEDDINGS]


async def test_the_gateways_own_answers_have_no_body_for_head(plane):
    caller = await plane.connect()
    await caller.send(request("/v1/models", method="HEAD") + request("/health"))
    answer = await caller.answer(to_head=True)
    assert int(answer.fields["content-length"]) > 0
    assert (await caller.answer()).json["status"] == "ok"


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/metrics"])
async def test_a_body_that_its_own_answers_do_not_need_disturbs_nothing(plane, path):
    for method in ("GET", "POST"):
        answer = await plane.ask(request(path, method=method, body=b"x" * 100_000))
        assert answer.status == (200 if method == "GET" or path != "/v1/models" else 404)


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/metrics"])
async def test_a_client_answered_before_its_body_came_is_told_that_the_answer_is_the_last(plane, path):
    caller = await plane.connect()
    await caller.send(request(path, "Content-Length: 1000") + b"x")
    answer = await caller.answer()
    assert (answer.status, answer.fields["connection"]) == (200, "close")


async def test_metrics_that_cannot_be_had_are_an_error_and_not_a_wait(plane, monkeypatch, caplog):
    async def broken():
        raise RuntimeError("bug")

    monkeypatch.setattr(plane.outside, "metrics", broken)
    answer = await plane.ask(request("/metrics"))
    assert (answer.status, answer.error["code"]) == (500, "metrics_failed")
    assert "bug" in caplog.text


async def test_metrics_are_public_unless_looking_needs_a_login(plane):
    with_key(plane)
    answer = await plane.ask(request("/metrics"))
    assert (answer.status, answer.content) == (200, b"llamaproxy_up 1\n")
    plane.gateway.public_metrics = False
    assert (await plane.ask(request("/metrics"))).status == 401
    assert (await plane.ask(request("/metrics", "X-Api-Key: lp-a"))).status == 403
    with_key(plane, scopes=frozenset(Scope))
    assert (await plane.ask(request("/metrics", "X-Api-Key: lp-a"))).status == 200


async def test_the_gateways_health_needs_no_key_and_its_models_do(plane):
    with_key(plane)
    assert (await plane.ask(request("/health"))).status == 200
    answer = await plane.ask(request("/v1/models"))
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert (await plane.ask(request("/v1/models", "Authorization: Bearer lp-a"))).status == 200


async def test_a_key_that_is_wrong_is_refused_before_the_body_comes(plane):
    server = await plane.serve(answers())
    with_key(plane)
    caller = await plane.connect()
    await caller.send(
        request(EMBEDDINGS, "X-Api-Key: lp-b", f"Content-Length: {10**9}", method="POST") + b"x" * 10
    )
    answer = await caller.answer()
    assert (answer.status, answer.fields["connection"]) == (401, "close")
    assert not server.calls


@pytest.mark.parametrize("key", ["lp-a", "lp-b"], ids=["used up", "wrong"])
async def test_a_client_refused_after_all_has_come_keeps_its_connection(plane, key):
    await plane.serve(answers())
    with_key(plane, requests_per_minute=1)
    await plane.ask(request(EMBEDDINGS, "X-Api-Key: lp-a", body={}))
    caller = await plane.connect()
    for _ in range(2):
        answer = await caller.ask(request(EMBEDDINGS, f"X-Api-Key: {key}", body={}))
        assert answer.status == (429 if key == "lp-a" else 401)
        assert "connection" not in answer.fields


async def test_a_key_may_ask_for_its_models_only(plane):
    with_key(plane, models=frozenset({"a"}))
    a, b = await plane.serve(answers(), name="a"), await plane.serve(answers(), name="b")
    key = "X-Api-Key: lp-a"
    assert (await plane.ask(request(EMBEDDINGS, key, body={"model": "a"}))).status == 200
    answer = await plane.ask(request(EMBEDDINGS, key, body={"model": "b"}))
    assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
    assert (len(a.calls), len(b.calls)) == (1, 0)


async def test_a_key_has_so_many_requests_at_once(plane):
    with_key(plane, max_concurrent=1)
    server = await plane.serve(answers(), status=Status.STARTING)
    data = request(EMBEDDINGS, "X-Api-Key: lp-a", body={})
    first = plane.asks(data)
    await plane.until_waiting(1)
    answer = await plane.ask(data)
    assert (answer.status, answer.error["type"], answer.fields["retry-after"]) == (
        429,
        "rate_limit_error",
        "1",
    )
    server.says(status=Status.READY)
    assert (await first).status == 200
    assert (await plane.ask(data)).status == 200


# --- Pages in a browser --------------------------------------------------------------------------------


async def test_a_page_of_this_machine_may_ask(plane):
    server = await plane.serve(answers())
    answer = await plane.ask(
        request(EMBEDDINGS, *PREFLIGHT, "Access-Control-Request-Headers: x-a, x-b", method="OPTIONS")
    )
    assert (answer.status, answer.content) == (204, b"")
    assert answer.fields["access-control-allow-origin"] == "http://localhost:3000"
    assert "POST" in answer.fields["access-control-allow-methods"]
    assert answer.fields["access-control-allow-headers"] == "x-a, x-b"
    assert "origin" in answer.fields["vary"].lower()
    assert not server.calls
    assert (await plane.ask(request(EMBEDDINGS, PREFLIGHT[0], body={}))).status == 200
    for path in ("/v1/models", "/health"):
        found = await plane.ask(request(path, PREFLIGHT[0]))
        assert found.fields["access-control-allow-origin"] == "http://localhost:3000"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://["])
async def test_a_page_of_somebody_else_may_not(plane, origin):
    server = await plane.serve(answers())
    answer = await plane.ask(request(EMBEDDINGS, f"Origin: {origin}", body={}))
    assert (answer.status, answer.error["code"]) == (403, "origin_not_allowed")
    assert "access-control-allow-origin" not in answer.fields
    preflight = await plane.ask(request(EMBEDDINGS, f"Origin: {origin}", PREFLIGHT[1], method="OPTIONS"))
    assert preflight.status == 403
    assert not server.calls


@pytest.mark.parametrize("host", ["evil.example", "[", ""])
async def test_a_name_that_is_not_its_own_is_refused(plane, host):
    server = await plane.serve(answers())
    raw = request(EMBEDDINGS, body={}).replace(b"Host: localhost", f"Host: {host}".encode())
    answer = await plane.ask(raw)
    assert (answer.status, answer.error["code"]) == (421, "host_not_allowed")
    assert not server.calls


@pytest.mark.parametrize("path", ["/health", "/metrics"])
async def test_while_there_is_no_key_nothing_is_told_to_somebody_else_s_page(plane, path):
    evil = request(path, "Origin: https://evil.example")
    rebound = request(path).replace(b"localhost", b"evil.example")
    assert [(await plane.ask(raw)).status for raw in (evil, rebound, request(path))] == [403, 421, 200]
    with_key(plane)
    assert [(await plane.ask(raw)).status for raw in (evil, rebound)] == [200, 200]


async def test_where_nobody_is_let_in_no_page_of_somebody_else_reads_anything(plane):
    plane.gateway.door = Door(["localhost"], needs_key=True)
    found = [
        await plane.ask(request("/health", f"Origin: {origin}")) for origin in (HOME, "https://evil.example")
    ]
    assert [answer.status for answer in found] == [200, 200]
    assert [answer.fields.get("access-control-allow-origin") for answer in found] == [HOME, None]


async def test_a_page_may_send_credentials_if_people_have_let_it_in(plane):
    home = await plane.ask(request(EMBEDDINGS, *PREFLIGHT, method="OPTIONS"))
    assert home.fields["access-control-allow-credentials"] == "true"
    with_key(plane)
    lines = ["Origin: https://app.example", PREFLIGHT[1]]
    other = await plane.ask(request(EMBEDDINGS, *lines, method="OPTIONS"))
    assert (other.status, "access-control-allow-credentials" in other.fields) == (204, False)


async def test_an_app_that_is_refused_can_show_why(plane):
    server = await plane.serve(answers())
    origin = "vscode-webview://0a1b"
    preflight = await plane.ask(request(EMBEDDINGS, f"Origin: {origin}", PREFLIGHT[1], method="OPTIONS"))
    assert (preflight.status, preflight.fields["access-control-allow-origin"]) == (204, origin)
    answer = await plane.ask(request(EMBEDDINGS, f"Origin: {origin}", body={}))
    assert (answer.status, answer.error["code"]) == (403, "origin_not_allowed")
    assert answer.fields["access-control-allow-origin"] == origin
    assert "Retry-After" in answer.fields["access-control-expose-headers"]
    assert not server.calls
    plane.gateway.door = Door(["localhost"], allowed_origins=["vscode-webview://*"])
    assert (await plane.ask(request(EMBEDDINGS, f"Origin: {origin}", body={}))).status == 200


async def test_with_keys_any_page_may_ask_that_has_one(plane):
    with_key(plane)
    await plane.serve(answers())
    preflight = await plane.ask(
        request(EMBEDDINGS, "Origin: https://app.example", PREFLIGHT[1], method="OPTIONS")
    )
    assert (preflight.status, preflight.fields["access-control-allow-origin"]) == (204, "https://app.example")
    refused = await plane.ask(request(EMBEDDINGS, "Origin: https://app.example", body={}))
    assert (refused.status, refused.fields["access-control-allow-origin"]) == (401, "https://app.example")
    data = request(EMBEDDINGS, "Origin: https://app.example", "X-Api-Key: lp-a", body={})
    assert (await plane.ask(data)).status == 200


async def test_a_stranger_is_counted_and_gets_no_row(plane):
    await plane.serve(answers())
    with_key(plane)
    for data in (request("/v1/embeddings", body={}), request("/v1/embeddings", "X-Api-Key: lp-no", body={})):
        assert (await plane.ask(data)).status == 401
    assert (await plane.ask(request("/v1/embeddings", "X-Api-Key: lp-a", body={}))).status == 200
    assert [(each.status, each.is_kept) for each in await plane.records(3)] == [
        (401, False),
        (401, False),
        (200, True),
    ]


@pytest.mark.parametrize("line", ["Host: evil.example", "Origin: https://evil.example"])
async def test_a_page_that_is_not_ours_gets_no_row(plane, line):
    await plane.serve(answers())
    data = request("/v1/embeddings", line, body={})
    if line.startswith("Host"):
        data = data.replace(b"Host: localhost\r\n", b"")
    assert (await plane.ask(data)).status in (403, 421)
    assert not (await plane.records(1))[0].is_kept


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"enabled": False}, 401), ({"expires_at": 1.0}, 401), ({"requests_per_minute": 1}, 429)],
    ids=["off", "expired", "used up"],
)
async def test_a_refused_key_is_recorded_with_its_request(plane, fields, status):
    await plane.serve(answers())
    with_key(plane, **fields)
    data = request("/v1/embeddings", "X-Api-Key: lp-a", body={})
    while (answer := await plane.ask(data)).status == 200:
        pass
    assert answer.status == status
    await eventually(lambda: plane.outside.records and plane.outside.records[-1].status == status)
    assert plane.outside.records[-1].key == 7


# --- In the words of the API that was asked --------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (EMBEDDINGS, "invalid_request_error"),
        ("/v1/messages", "authentication_error"),
        ("/v1/messages/count_tokens", "authentication_error"),
        ("/completion", "authentication_error"),
        ("/slots", "authentication_error"),
    ],
)
async def test_a_client_without_a_key_is_told_so_in_the_words_of_the_api(plane, path, kind):
    with_key(plane)
    await plane.serve(answers())
    answer = await plane.ask(request(path, body={}))
    assert (answer.status, answer.error["code"], answer.error["type"]) == (401, "invalid_api_key", kind)
    assert (answer.json.get("type") == "error") is ("/messages" in path)
    assert answer.fields["www-authenticate"] == 'Bearer realm="llamaproxy"'


async def test_a_key_may_be_the_password_of_basic(plane):
    with_key(plane)
    server = await plane.serve(answers())
    data = request(EMBEDDINGS, "Authorization: Basic YW55Ym9keTpscC1h", body={"input": "hi"})
    assert (await plane.ask(data)).status == 200
    assert "authorization" not in server.calls[0].fields


# --- The files of llama-server's own web UI ---------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/index.html", "/favicon.ico", "/_app/immutable/a.js"])
async def test_whether_a_file_of_the_web_ui_is_public_its_server_says(plane, path):
    with_key(plane)
    server = await plane.serve(answers(b"file"), answers(b"no", 401), api_key="secret")
    answer = await plane.ask(request(path))
    assert (answer.status, answer.content) == (200, b"file")
    assert "authorization" not in server.calls[0].fields
    assert (await plane.ask(request(path))).status == 401
    assert (await plane.ask(request(path, "X-Api-Key: lp-a"))).status == 401
    assert server.calls[2].fields["authorization"] == "Bearer secret"


async def test_a_stranger_who_asks_for_a_file_neither_waits_nor_learns_anything(plane):
    with_key(plane)
    await plane.serve(answers(), status=Status.CRASHED, detail="Out of memory.", wakes=True, wanted=False)
    answer = await plane.ask(request("/"))
    assert (answer.status, answer.error["message"]) == (503, "The server is not ready.")
    assert plane.outside.woken == []


async def test_a_file_of_several_servers_needs_a_key(plane):
    with_key(plane)
    for name in ("a", "b"):
        await plane.serve(answers(), name=name)
    assert (await plane.ask(request("/?model=a"))).status == 401


async def test_where_nobody_is_let_in_nobody_gets_a_file(plane):
    plane.gateway.door = Door(["localhost"], needs_key=True)
    await plane.serve(answers())
    assert (await plane.ask(request("/"))).status == 401
