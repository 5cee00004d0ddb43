"""The report of a crash that a developer of llama.cpp needs, as Markdown without secrets. Pure."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor_app.common.redact import harmless, redact, redact_argv, without_folders, word_without_folders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

BEFORE, AFTER = 25, 10
"""Lines around the decisive one; without one, so many of the end."""
LONGEST_LINE = 500
UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts of a run, of the host that it ran on and of its model. Empty: not known."""

    title: str
    detail: str
    story: str
    """Sentence on how it lived and ended."""
    ended: str
    """Exit code or signal, in words."""
    times: int
    """Crashes of this cause with this build."""
    build: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    lines: Sequence[str]
    """The last lines of its output."""
    decisive: str
    decisive_at: int | None
    """Place of the decisive line among these lines."""
    host: Sequence[str]
    devices: Sequence[str]
    model: Sequence[str]
    secrets: tuple[str, ...] = ()
    """Values to be hidden wherever they turn up."""


def write_report(facts: Facts) -> str:
    """Write the report."""

    def clean(text: str) -> str:
        return harmless(without_folders(redact(text, facts.secrets)))[:LONGEST_LINE]

    name = f"{facts.title}: {clean(facts.detail)}" if facts.detail else facts.title
    often = f" It was seen {facts.times} times with this build." if facts.times > 1 else ""
    environment = [clean(f"{key}={value}") for key, value in sorted(facts.environment.items())]
    command = shlex.join(clean(word_without_folders(word)) for word in redact_argv(facts.argv))
    return "\n".join(
        [
            "### Name and version",
            "",
            f"llama-server, build {facts.build or UNKNOWN}",
            "",
            "### What happened",
            "",
            f"**{name}**",
            "",
            f"{facts.story} Ended with: {facts.ended}.{often}",
            "",
            "### Command line",
            "",
            *_fenced([command] if facts.argv else ["unknown: it was not started by llamaproxy"], "sh"),
            *(["", "Environment:", "", *_fenced(environment, "sh")] if environment else []),
            "",
            "### Relevant log output",
            "",
            *_fenced([clean(line) for line in around(facts)], "text"),
            "",
            "### Operating system, hardware and model",
            "",
            *_listed("Host", facts.host, clean),
            *_listed("Device", facts.devices, clean),
            *_listed("Model", facts.model, clean),
            "",
            "Reported with llamaproxy, which hid secrets and folders.",
            "",
        ]
    )


def around(facts: Facts) -> list[str]:
    """Choose the lines around the decisive one; it comes first where it is older than all that are kept."""
    lines, at = list(facts.lines), facts.decisive_at
    if at is not None and at < len(lines):
        return lines[max(0, at - BEFORE) : at + AFTER + 1]
    last = lines[-(BEFORE + AFTER) :]
    return [facts.decisive, "…", *last] if facts.decisive else last or ["It wrote nothing that is kept."]


def _fenced(lines: Sequence[str], language: str) -> list[str]:
    """Put lines into a block whose fence is longer than any in them."""
    longest = max((len(run) for line in lines for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *lines, fence]


def _listed(what: str, said: Sequence[str], clean: Callable[[str], str]) -> Iterable[str]:
    return [f"- {what}: {clean(each)}" for each in said or (UNKNOWN,)]
