"""Looks for bytes that break a target, with coverage to guide it: `python -m tests.fuzz chunked -max_total_time=60`.

What follows the target is for libFuzzer: its options, a directory of inputs, or a file with what broke it before.
"""

from __future__ import annotations

import sys

NO_ATHERIS = "Atheris is needed: pip install atheris"


def main(arguments: list[str]) -> None:
    try:
        import atheris
    except ImportError:
        sys.exit(NO_ATHERIS)
    with atheris.instrument_imports(include=["supervisor_app.gateway"]):
        from tests.fuzz.targets import SEEDS, TARGETS

    if not arguments or arguments[0] not in TARGETS:
        sys.exit(f"Name a target: {', '.join(TARGETS)}")
    name, *options = arguments
    for seed in SEEDS[name]:
        TARGETS[name](seed)
    atheris.Setup([name, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
