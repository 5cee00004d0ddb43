"""The command line of `runsupervisor` as one value, and the settings that depend on it."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llamaproxy.options import Options, Site, node_name, read_ahead

ROOT = Path(__file__).parents[2]


# --- The value -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["local", "gpu-7", "a.b_c", "x" * 63])
def test_a_node_name_is_taken(text):
    assert node_name(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "a/b",  # part of a file's name
        "x" * 64,  # part of a channel's name, which is less than 100 characters
        "knöten",  # so is this, which is ASCII
        "a\n",
    ],
)
def test_a_node_name_is_refused_by_name(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a node name"):
        node_name(text)


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ({}, "http://127.0.0.1:8001"),
        ({"gateway": ("0.0.0.0", 9000)}, "http://localhost:9000"),
        ({"gateway": ("::1", 9000)}, "http://[::1]:9000"),
        ({"no_gateway": True}, ""),
        ({"no_web": True}, ""),
    ],
)
def test_a_place_knows_the_url_of_its_gateway(said, url):
    assert Site(node="local", **said).gateway_url == url


@pytest.mark.parametrize(
    ("said", "hosts"),
    [
        ({}, ["127.0.0.1"]),
        ({"bind": ("gpu-7.lan", 80)}, ["gpu-7.lan"]),
        ({"bind": ("::1", 80)}, ["[::1]"]),
        ({"bind": ("0.0.0.0", 80)}, []),
        ({"bind": ("::", 80)}, []),
        ({"no_web": True}, []),
        ({"no_gateway": True}, ["127.0.0.1"]),
    ],
)
def test_a_place_knows_the_hosts_of_its_pages(said, hosts):
    assert Site(node="local", **said).hosts == hosts


def test_options_are_taken_from_among_what_django_has_parsed():
    said = {"node": "a", "insecure_open": True, "grace": 1.0, "keep_servers": False, "demo": True}
    assert Options.of({**said, "verbosity": 1, "settings": None}) == Options(**said)


# --- Read ahead ----------------------------------------------------------------------------------------

NOWHERE = Site(node="local", no_web=True)


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("runsupervisor", Site(node="local")),
        ("runsupervisor --node gpu-7 --no-web", Site(node="gpu-7", no_web=True)),
        ("runsupervisor --node=gpu-7", Site(node="gpu-7")),
        (
            "runsupervisor --bind [::1]:80 --gateway 90",
            Site(node="local", bind=("::1", 80), gateway=("127.0.0.1", 90)),
        ),
        (
            "runsupervisor --grace 5 --demo --no-gateway -v 2 --insecure-open",
            Site(node="local", no_gateway=True),
        ),
        (
            "runsupervisor --gatew 90",
            Site(node="local", gateway=("127.0.0.1", 90)),
        ),  # argparse takes beginnings
        # What the command refuses
        ("runsupervisor --bind nowhere", NOWHERE),
        ("runsupervisor --node", NOWHERE),
        ("runsupervisor --node a/b", NOWHERE),
        # What is no supervisor
        ("", NOWHERE),
        ("rungateway --bind 0.0.0.0:80", NOWHERE),
        ("migrate runsupervisor", NOWHERE),
    ],
)
def test_the_command_line_is_read_ahead(line, place):
    assert read_ahead(line.split(), node="local") == place


def settings_of(tmp_path, *line, **environ):
    """What the settings of a process with this command line say."""
    code = (
        "import json; from llamaproxy import settings as s;"
        "print(json.dumps([s.LLAMAPROXY_NODE, s.LLAMAPROXY_GATEWAY_URL, s.ALLOWED_HOSTS[3:], s.LLAMAPROXY_HOSTS[3:]]))"
    )
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("LLAMAPROXY", "ALLOWED"))
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *line],
        cwd=ROOT,
        env={**ours, "LLAMAPROXY_DATA_DIR": str(tmp_path), **environ},
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_settings_know_the_command_line_of_a_supervisor(tmp_path):
    line = ["runsupervisor", "--node", "gpu-7", "--bind", "gpu-7.lan:80", "--gateway", "gpu-7.lan:90"]
    said = settings_of(tmp_path, *line, LLAMAPROXY_NODE="other", ALLOWED_HOSTS="llama.example.org")
    assert said == [
        "gpu-7",
        "http://gpu-7.lan:90",
        ["llama.example.org", "gpu-7.lan"],
        ["llama.example.org"],  # the gateway does not go by the name of the pages
    ]


def test_where_programs_find_the_gateway_is_what_people_have_said(tmp_path):
    url = "https://llama.example.org"
    said = settings_of(tmp_path, "runsupervisor", "--bind", "[::1]:80", LLAMAPROXY_GATEWAY_URL=url)
    assert said == ["local", url, [], []]


def test_another_command_is_at_no_place(tmp_path):
    assert settings_of(tmp_path, "rungateway", "--bind", "0.0.0.0:80", LLAMAPROXY_NODE="a") == [
        "a",
        "",
        [],
        [],
    ]
