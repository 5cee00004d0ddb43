"""Which flags a web form may set."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from supervisor_app.engine.flags import HARMLESS, OF_OTHER_BUILDS, not_for_forms

TOUCHES_MORE = re.compile(
    r"\b(file|files|path|dir|directory|FNAME|PATH|DIR|URL|server:port|download|MCP|tools?|CORS|RPC|weights from the)\b"
)
"""Words in llama-server's help for flags that reach for files, programs or the network."""
READ_AND_FOUND_HARMLESS = {
    "--grammar",
    "--mmproj-auto",
    "--no-mmproj",
    "--no-mmproj-auto",
    "--no-skip-chat-parsing",
    "--skip-chat-parsing",
}
"""Flags whose help uses such a word for something else."""


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["-c", "8192", "-ngl", "99", "--flash-attn", "on"],
        ["--n_gpu_layers", "99"],
        ["--temp", "-1", "--keep", "-1", "--min-p", "-.5"],
        ["--alias", "a b", "--chat-template-kwargs", '{"thinking": false}'],
    ],
)
def test_flags_that_only_say_how_to_compute_are_accepted(args):
    assert not_for_forms(args) == []


@pytest.mark.parametrize(
    ("args", "refused"),
    [
        (["--mcp-servers-json", "{}"], ["--mcp-servers-json"]),
        (["--mcp_servers_json", "{}"], ["--mcp-servers-json"]),
        (["--path", "/", "--log-file", "/x", "--path", "/"], ["--path", "--log-file"]),
        (["--tools", "all"], ["--tools"]),
        (["--rpc", "10.0.0.1:50052"], ["--rpc"]),
        (["-hf", "a/b"], ["-hf"]),
        (["--path=/"], ["--path"]),
        (["-c", "--path", "/"], ["--path"]),
        (["--alias", "-ag"], ["-ag"]),
        (["--not-known-yet"], ["--not-known-yet"]),
        (["--C", "1"], ["--C"]),
        (["--", "x"], ["--"]),
        (["-"], ["-"]),
    ],
)
def test_any_other_flag_is_refused_wherever_it_stands(args, refused):
    assert not_for_forms(args) == refused


@pytest.fixture(scope="module")
def described():
    """Of the real llama-server: flag -> the line or lines of its help."""
    program = shutil.which("llama-server")
    if program is None:
        pytest.skip("needs llama-server on PATH")
    run = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60, check=False)
    described: dict[str, str] = {}
    for entry in re.split(r"\n(?=-)", run.stdout + run.stderr):
        head = entry.split("\n")[0]
        names = head[:40] if head[38:40] == "  " else head
        for name in re.findall(r"(?<![\w-])--?[A-Za-z][\w.-]*", names):
            described[name] = entry
    assert "--ctx-size" in described
    return described


@pytest.mark.engine
def test_every_accepted_flag_is_one_of_the_engine(described):
    assert HARMLESS - described.keys() - OF_OTHER_BUILDS == set()


@pytest.mark.engine
def test_no_accepted_flag_reaches_for_files_programs_or_the_network(described):
    accepted = {flag: re.sub(r"\(env: .*?\)", "", described[flag]) for flag in HARMLESS & described.keys()}
    suspicious = {flag for flag, entry in accepted.items() if TOUCHES_MORE.search(entry)}
    assert suspicious == READ_AND_FOUND_HARMLESS
