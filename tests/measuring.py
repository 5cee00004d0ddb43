"""Measure which lines and branches of the product the tests reach: a plugin of pytest, and its report.

`MEASURE=DIRECTORY pytest` writes what each of its processes has seen to a file there; `python -m tests.measuring
DIRECTORY` adds them up. SlipCover puts a probe at each line and branch, and takes it away once it was passed: unit
tests need 79 s of CPU with it, 137 s with the tracer of coverage.py, 55 s without either. Processes that tests start
are not measured. A line of a `finally` that exceptions alone reach has no probe where the line before it is its own.
"""

from __future__ import annotations

import json
import os
import sys
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

VARIABLE = "MEASURE"
SOURCES = ["llamaproxy", "supervisor_app"]
OMITTED = ["*/migrations/*"]
EXCLUDED = ["if TYPE_CHECKING:", "@overload", "raise AssertionError", r"\.\.\.$", "case never:"]
"""Lines that need no test, with what belongs to them. Stubs; and what types show to be impossible."""
LEAST = {"": 90.0, "supervisor_app/core/": 100.0, "supervisor_app/common/redact.py": 100.0}
"""Percent of lines and branches, by the beginning of a path."""
EXIT = 0
"""Number that stands for the end of a function where a branch leads."""


class Measured:
    """Lines and branches of one file: reached, and not."""

    def __init__(self, seen: dict[str, list[Any]]) -> None:
        lines = {*seen["executed_lines"], *seen["missing_lines"], EXIT}
        # A branch to a line that is excluded is reported all the same.
        branches = [tuple(branch) for branch in seen["missing_branches"] if branch[1] in lines]
        self.missing = [*seen["missing_lines"], *branches]
        self.reached = len(seen["executed_lines"]) + len(seen["executed_branches"])

    @property
    def all(self) -> int:
        return self.reached + len(self.missing)


class Probes:
    """The plugin: probes in each module of the product that is loaded from now on."""

    def __init__(self, directory: Path) -> None:
        import slipcover

        self._directory = directory
        self._measured = slipcover.Slipcover(branch=True, source=SOURCES, omit=OMITTED, exclude_also=EXCLUDED)
        matcher = slipcover.FileMatcher(sources=SOURCES, omit=OMITTED)
        slipcover.ImportManager(self._measured, matcher).__enter__()

    def pytest_sessionfinish(self) -> None:
        self._directory.mkdir(exist_ok=True)
        path = self._directory / f"{os.environ.get('PYTEST_XDIST_WORKER', 'main')}.json"
        path.write_text(json.dumps(self._measured.get_coverage()))


def pytest_configure(config: pytest.Config) -> None:
    if probes is not None:
        config.pluginmanager.register(probes)


def report(directory: Path) -> Iterator[str]:
    """Write a line for each file with gaps, and return a sentence for each part that is reached too little."""
    import slipcover

    seen = reduce(
        slipcover.merge_coverage, [json.loads(path.read_text()) for path in directory.glob("*.json")]
    )
    files = {name: Measured(file) for name, file in sorted(seen["files"].items())}
    for name, file in files.items():
        if file.missing:
            gaps = ", ".join(
                "->".join(map(str, gap)) if isinstance(gap, tuple) else str(gap) for gap in file.missing
            )
            print(f"{name:60} {100 * file.reached / file.all:5.1f} %  {gaps}")
    for start, least in LEAST.items():
        part = [file for name, file in files.items() if name.startswith(start)]
        reached = 100 * sum(file.reached for file in part) / sum(file.all for file in part)
        print(f"{start or 'All':60} {reached:5.1f} %  of lines and branches; at least {least:g} %")
        if reached < least:
            yield f"{start or 'All'}: {reached:.2f} % of lines and branches are reached, {least:g} % have to be."


def asked_for() -> Probes | None:
    """Place the probes, where somebody wants to measure; not in the processes that a measured one starts."""
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    directory = os.environ.pop(VARIABLE, "") if is_worker else os.environ.get(VARIABLE, "")
    return Probes(Path(directory).absolute()) if directory else None


if __name__ == "__main__":
    sys.exit("\n".join(report(Path(sys.argv[1]))) or 0)  # an empty text would be a failure, too
# Probes go into what is loaded after this plugin: so at once, and not in a hook.
probes = asked_for()
