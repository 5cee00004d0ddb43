"""The pages under a path of a proxy: what is read from the environment, what becomes of paths."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.urls import get_script_prefix, reverse

from llamaproxy.env import sub_path as read
from supervisor_app.common.sub_path import below_sub_path, inner_path, outer_path, script_prefix, sub_path
from supervisor_app.pages.templatetags.supervisor_tags import socket
from supervisor_app.web.errors import is_api_path, usual_error


@pytest.fixture
def llama(settings):
    settings.FORCE_SCRIPT_NAME = "/llama"


@pytest.mark.parametrize(
    ("text", "path"),
    [("", None), ("/", None), ("/llama", "/llama"), ("/llama/", "/llama"), ("/a/b-c.d", "/a/b-c.d")],
)
def test_a_path_is_read_from_the_environment(text, path):
    assert read(text) == path


@pytest.mark.parametrize("text", ["llama", "/a//b", "/..", "/a/.", "/a b", "/a?b", "https://x/y", "/%41"])
def test_a_text_that_is_no_path_stops_the_start(text):
    with pytest.raises(ImproperlyConfigured, match="Use one such as /llama"):
        read(text)


@pytest.mark.parametrize(
    ("path", "inner", "outer"),
    [
        ("/llama", "/", "/llama/"),
        ("/llama/", "/", "/llama/"),
        ("/llama/servers/a/", "/servers/a/", "/llama/servers/a/"),
        ("/servers/a/", "/servers/a/", "/llama/servers/a/"),
        ("/llamaproxws", "/llamaproxws", "/llama/llamaproxws"),
        ("/", "/", "/llama/"),
    ],
)
def test_a_path_is_the_same_whether_or_not_the_proxy_has_passed_the_sub_path_on(llama, path, inner, outer):
    assert (inner_path(path), outer_path(path)) == (inner, outer)


def test_without_a_sub_path_every_path_stays(settings):
    settings.FORCE_SCRIPT_NAME = None
    assert sub_path() == ""
    for path in ("/", "/servers/a/", "/llama"):
        assert inner_path(path) == outer_path(path) == path


def test_addresses_have_the_sub_path_where_no_request_is_served(llama):
    assert reverse("home") == "/"
    with script_prefix():
        assert reverse("server", args=["a"]) == "/llama/servers/a/"
        assert socket("a b").startswith("/llama/llamaproxws?server=a%20b&build=")
    assert get_script_prefix() == "/"


def test_an_error_of_the_api_is_one_below_the_sub_path(llama):
    assert is_api_path("/llama/api/servers/")
    assert is_api_path("/api/servers/")
    assert not is_api_path("/llama/apiary")
    assert b"See /llama/api/servers/." in usual_error(404).content


async def test_an_application_sees_the_path_that_browsers_have(llama):
    seen = []

    async def application(scope, receive, send):
        seen.append(scope)

    for scope in ({"path": "/readyz", "root_path": ""}, {"path": "/llama/readyz"}, {"type": "lifespan"}):
        await below_sub_path(application)(scope, None, None)
    assert seen == [
        {"path": "/llama/readyz", "root_path": "/llama"},
        {"path": "/llama/readyz", "root_path": "/llama"},
        {"type": "lifespan"},
    ]
