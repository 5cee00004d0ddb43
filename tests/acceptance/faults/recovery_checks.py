"""Checks of what the next supervisor makes of the end of one that was killed."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from tests.acceptance.children import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.harness import Proxy

KEPT = re.compile(
    r"db\.sqlite3(-wal|-shm)?|secret-key|node-local\.lock|models/demo\.gguf|config-last-good\.json"
    r"|logs/[\w-]+\.log(\.[1-9])?"
)
"""The files of a data directory; what else lies there was left behind."""
STATE = """
    SELECT state.*, server.generation AS asked, server.desired_running
    FROM supervisor_app_serverstate AS state JOIN supervisor_app_llamaserver AS server ON server.id = server_id
"""
LARGEST_LOG = 10 * 2**20
LARGEST_COPY = LARGEST_LOG * 5 // 4
LIFE = ("id", "pid", "process_start")


@dataclass(frozen=True, kw_only=True)
class Left:
    """Records that a killed supervisor had written."""

    version: int = 0
    runs: tuple[dict[str, Any], ...] = ()


def left_behind(proxy: Proxy) -> Left:
    if not tables(proxy):
        return Left()
    states = proxy.query("SELECT version FROM supervisor_app_serverstate")
    return Left(version=states[0]["version"] if states else 0, runs=tuple(proxy.runs()))


def tables(proxy: Proxy) -> bool:
    """Was there time to make them?"""
    names = "('supervisor_app_run', 'supervisor_app_serverstate')"
    return len(proxy.query(f"SELECT 1 FROM sqlite_master WHERE name IN {names}")) == 2


def wait_until_recovered(proxy: Proxy, left: Left) -> None:
    """Wait until nothing is wrong any more; what never came right is in the failure."""
    wrong: list[str] = []

    def look() -> bool:
        wrong[:] = troubles(proxy, left)
        return not wrong

    wait_for("all is as it was wished", look, lambda: "\n".join([*wrong, proxy.evidence()]))


def troubles(proxy: Proxy, left: Left) -> list[str]:
    """List troubles in words. Looking at processes costs most, so the state comes first."""
    rows = proxy.query(STATE) if tables(proxy) else []
    if not rows:
        return ["no supervisor has looked at the server"]
    (row,) = rows
    return [*_of_the_state(row, left)] or [
        *_of_the_processes(proxy, row),
        *_of_the_history(proxy, row, left),
        *_of_the_turns(proxy),
        *_of_the_pages(proxy, row),
        *_of_the_files(proxy),
        *_of_the_rights(proxy),
    ]


def servers(proxy: Proxy) -> list[psutil.Process]:
    """The llama-servers, whoever started them: each names a port, and no supervisor does."""
    found = []
    for process in proxy.family():
        with suppress(psutil.Error):
            if "--port" in process.cmdline():
                found.append(process)
    return found


def _of_the_state(row: dict[str, Any], left: Left) -> Iterator[str]:
    wished = "ready" if row["desired_running"] else "initial"
    if row["version"] <= left.version:
        yield "the next supervisor has not said anything"
    if row["status"] != wished:
        yield f"it is {row['status']}, not {wished}: {row['detail']}"
    if row["generation"] != row["asked"]:
        yield f"wish {row['asked']} was not acted on, only {row['generation']}"


def _of_the_processes(proxy: Proxy, row: dict[str, Any]) -> Iterator[str]:
    alive = servers(proxy)
    wished = 1 if row["desired_running"] else 0
    if len(alive) != wished:
        yield f"{len(alive)} llama-servers: {alive}"
    if [process.pid for process in alive] != [row["pid"]] * wished:
        yield f"its pid is said to be {row['pid']}, it is {alive}"
    descendants = {child for server in alive for child in _children(server)}
    for process in set(proxy.engines()) - {*alive, *descendants}:
        yield f"{process} belongs to no server"
    if not row["adopted"]:
        flags = ["--port", str(proxy.config["llama_server_port"]), *proxy.config["llama_server_args"]]
        if proxy.config.get("keep_context"):
            flags += ["--slot-save-path", str(proxy.data_dir / "slots" / "default")]
        for process in alive:
            with suppress(psutil.Error):
                if process.cmdline()[-len(flags) :] != flags:
                    yield f"it runs with {process.cmdline()}, configured is {flags}"
    with suppress(psutil.Error):
        for child in psutil.Process(proxy.supervisor.pid).children():
            if child.status() == psutil.STATUS_ZOMBIE:
                yield f"{child} is a zombie"


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return process.children(recursive=True)
    return []


def _of_the_history(proxy: Proxy, row: dict[str, Any], left: Left) -> Iterator[str]:
    runs = proxy.runs()
    lives = [tuple(run[key] for key in LIFE) for run in runs]
    before = [tuple(run[key] for key in LIFE) for run in left.runs]
    if lives[: len(before)] != before:
        yield f"the history was {before}, now it is {lives}"
    if len({life[1:] for life in lives}) != len(lives):
        yield f"a life is told twice: {lives}"
    for old, now in zip(left.runs, runs, strict=False):
        if old["ended_at"] and old != now:
            yield f"what was told changed from {old} to {now}"
    open_runs = [run for run in runs if not run["ended_at"]]
    wished = [(row["pid"], row["process_start"], True)] if row["desired_running"] else []
    if [(run["pid"], run["process_start"], bool(run["ready_at"])) for run in open_runs] != wished:
        yield f"open are {open_runs}, of {wished}"


def _of_the_turns(proxy: Proxy) -> Iterator[str]:
    for turn in proxy.query("SELECT * FROM supervisor_app_restartturn"):
        yield f"a turn to restart was not released: {turn}"


def _of_the_pages(proxy: Proxy, row: dict[str, Any]) -> Iterator[str]:
    if not proxy.has_web:
        return
    told = proxy.status()
    if not told:
        yield "the pages do not answer"
        return
    if (told["status"], told["pid"]) != (row["status"], row["pid"]):
        yield f"the API says {told}"
    page = proxy.get("/servers/default/").text
    if f'data-status="{row["status"]}"' not in page or (row["pid"] and str(row["pid"]) not in page):
        yield "the page says something else"


def _of_the_files(proxy: Proxy) -> Iterator[str]:
    for path in sorted(proxy.data_dir.rglob("*")):
        name = str(path.relative_to(proxy.data_dir))
        if path.is_file() and not KEPT.fullmatch(name):
            yield f"{name} was left behind"
    large = [
        path
        for path in proxy.data_dir.glob("logs/*")
        if path.stat().st_size > (LARGEST_LOG if path.suffix == ".log" else LARGEST_COPY)
    ]
    if large:
        yield f"too large: {large}"


def _of_the_rights(proxy: Proxy) -> Iterator[str]:
    if not proxy.query("SELECT 1 FROM auth_permission WHERE codename = 'change_llamaserver'"):
        yield "nobody can be given the right to change a server"
