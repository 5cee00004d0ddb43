"""Conversations that are kept: what keys, records and the database have to do with that."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from django.utils import timezone

from supervisor_app.core.changes import Change, ContextCounted
from supervisor_app.core.status import LlamaStatus
from supervisor_app.fleet.conf import Overlay, resolve
from supervisor_app.fleet.lease import Lease
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.store import ISOLATED, OrmStore
from supervisor_app.roles.store_hooks import STORE_HOOKS
from supervisor_app.traffic.models import ApiKey, RequestRecord
from supervisor_app.traffic.reuse import cached_tokens, is_isolated
from tests.integration.building import db, make_server

pytestmark = pytest.mark.django_db


def resolved(server):
    return resolve(server, Overlay(), command=("/usr/bin/llama-server",), cwd="/srv")


def test_the_setting_adds_the_flag_with_a_folder_of_the_server(settings):
    config = resolved(LlamaServer(name="chat", keep_context=True))
    assert config.spec.slot_dir == f"{settings.DATA_DIR}/slots/chat"
    assert config.spec.args[-2:] == ("--slot-save-path", config.spec.slot_dir)
    assert config.keeps_context


def test_a_server_without_the_setting_gets_no_flag():
    config = resolved(LlamaServer(name="chat"))
    assert "--slot-save-path" not in config.spec.args
    assert not config.keeps_context


@pytest.mark.parametrize(
    "fields", [{"models_dir": "models", "model_path": ""}, {"args": ["--slot-save-path", "/mine"]}]
)
def test_the_flags_stay_and_the_reason_is_told_where_keeping_is_not_possible(fields):
    config = resolved(LlamaServer(name="chat", keep_context=True, **fields))
    assert config.context_refusal.startswith("Its conversations are not kept (keep_context): ")
    assert config.spec.args == resolved(LlamaServer(name="chat", **fields)).spec.args


@pytest.mark.parametrize(
    ("allowed", "isolated"), [([], True), (["chat"], True), (["x.gguf"], True), (["other"], False)]
)
def test_a_key_that_isolates_its_prompts_at_a_server_keeps_them_from_the_disk(allowed, isolated):
    server = make_server("chat", model_path="/models/x.gguf")
    assert not is_isolated(server)
    ApiKey.objects.create(name="k", digest="00" * 32, isolate_cache=True, allowed_models=allowed)
    assert is_isolated(server) is isolated


@asynccontextmanager
async def opened():
    store = OrmStore(
        node="here", overlay=Overlay, command=lambda binary="": (), lease=Lease("here"), hooks=STORE_HOOKS
    )
    try:
        yield store
    finally:
        store.close()


@pytest.mark.django_db(transaction=True)
async def test_the_supervisor_is_told_so_without_a_restart():
    await db(make_server, "chat", node="here", keep_context=True)
    async with opened() as store:
        (before,) = await store.configs()
        await ApiKey.objects.acreate(name="k", digest="00" * 32, isolate_cache=True)
        (after,) = await store.configs()
    assert (before.context_refusal, after.context_refusal) == ("", ISOLATED)
    assert before.spec == after.spec


def record(server, *, ago, duration, cached):
    RequestRecord.objects.create(
        at=timezone.now() - timedelta(seconds=ago),
        server=server,
        method="POST",
        route="/v1/chat/completions",
        outcome="ok",
        duration_ms=duration * 1000,
        cached_tokens=cached,
    )


def test_answers_count_from_their_end_because_the_first_waited_for_the_start():
    record("chat", ago=100, duration=20, cached=1)
    record("chat", ago=70, duration=30, cached=2)
    record("chat", ago=65, duration=10, cached=3)
    record("chat", ago=30, duration=1, cached=None)
    record("chat", ago=20, duration=1, cached=4)
    record("other", ago=20, duration=1, cached=5)
    since = timezone.now().timestamp() - 60
    assert cached_tokens("chat", since, 10) == [3, 2, 4]
    assert cached_tokens("chat", since, 2) == [3, 2]


@pytest.mark.django_db(transaction=True)
async def test_conversations_are_counted_beside_the_history_and_told_as_metrics(async_client):
    await db(make_server, "chat", node="here")
    async with opened() as store:
        for version, counts in enumerate([{"saved": 2}, {"restored": 1, "lost": 1}, {"used": 1}], start=1):
            snapshot, counted = LlamaStatus(name="chat", version=version), ContextCounted(counts=counts)
            await store.save(Change(snapshot=snapshot, identity=None, generation=1, run_events=(counted,)))
    told = (await async_client.get("/metrics")).content.decode()
    assert 'llamaproxy_server_contexts_total{outcome="saved",server="chat"} 2.0' in told
    assert 'llamaproxy_server_contexts_total{outcome="lost",server="chat"} 1.0' in told
    assert 'llamaproxy_server_context_restores_total{outcome="used",server="chat"} 1.0' in told
