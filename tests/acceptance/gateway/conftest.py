"""A server behind the gateway that counts so slowly that it can be killed while it does."""

from __future__ import annotations

import shutil

import pytest

from tests.acceptance.conftest import ENGINE_ARGS, maker
from tests.acceptance.gateway.askers import PIECES
from tests.integration.gateway.engines import TEMPLATE, make_model_that_says

RECOVERS_FAST = {
    "retry_backoff_ms": 100,
    "max_backoff_ms": 100,
    "stable_after_ms": 100,
    "max_retries": 1000,
}
PADDING_MB = 32
"""Padding that costs some 5 ms for each token."""
CONTEXT = 16384
"""Tokens: an answer that does not end fills it for longer than any test is patient."""
LONG = ["-c", str(4 * CONTEXT), "-np", "4"]


def make_keys(proxy, keys):
    """Rows with these fields, by name, as people make them in the admin. Returns the secrets."""
    secrets = {name: f"lp-of-{name.replace(' ', '-')}" for name in keys}
    proxy.python(
        "from supervisor_app.traffic.models import ApiKey",
        "from supervisor_app.gateway.access.keys import digest_of, shown_part",
        "make = lambda name, key, fields: ApiKey.objects.create("
        "name=name, prefix=shown_part(key), digest=digest_of(key).hex(), **fields)",
        f"[make(name, {secrets!r}[name], fields) for name, fields in {keys!r}.items()]",
    )
    return secrets


def pytest_collection_modifyitems(items):
    if shutil.which("curl"):
        return
    for item in items:
        if "curl" in item.name:
            item.add_marker(pytest.mark.skip(reason="no curl: apt install curl"))


@pytest.fixture(scope="session", autouse=True)
def no_proxy():
    """Programs ask 127.0.0.1 themselves, wherever this runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture(scope="session")
def counting_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("counting") / "counting.gguf"
    return make_model_that_says(path, *PIECES, padding_mb=PADDING_MB, context=CONTEXT)


@pytest.fixture(scope="package")
def shared_counting(tmp_path_factory, installed, template, engine, counting_model):
    with maker(tmp_path_factory.mktemp("counting"), installed, template) as make:
        proxy = make(
            llama_model_path=str(counting_model),
            llama_server_args=[
                *ENGINE_ARGS,
                *LONG,
                *("--metrics", "--embeddings", "--pooling", "mean"),
                *("--jinja", "--chat-template-file", str(TEMPLATE)),
            ],
            **RECOVERS_FAST,
        )
        proxy.start().wait_for_status("ready")
        yield proxy


@pytest.fixture
def counting(shared_counting):
    """A proxy with the real engine, ready; tests may kill what they like of it, if it comes back."""
    shared_counting.wait_for_status("ready")
    return shared_counting
