"""Compare the planner with least recently used: `python -m tests.simulation.placement --seeds 10000`."""

from __future__ import annotations

import argparse
import sys

from supervisor_app.core.placement.plan import plan
from tests.simulation.placement.figures import Figures
from tests.simulation.placement.lru import least_recently_used
from tests.simulation.placement.seeds import node_of


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    planners = {"planner": plan, "least recently used": least_recently_used}
    worlds = {"busy ones are waited for": False, "busy ones finish after 30 s": True}
    figures = {(name, world): Figures() for world in worlds for name in planners}
    for seed in range(options.first, options.first + options.seeds):
        for name, planner in planners.items():
            node = node_of(seed, planner)
            interrupts = node.policy.max_wait_for_busy_seconds > 0
            world = next(each for each, does in worlds.items() if does is interrupts)
            figures[name, world].add(seed, node.live())
    for world in worlds:
        ours, theirs = (figures[name, world] for name in planners)
        print(world)
        for name in planners:
            print(f"  {name}: {figures[name, world]}")
        ratio = ours.evictions_per_answer / theirs.evictions_per_answer
        print(f"  ratio: evictions {ratio:.2f}, mean wait {ours.mean_wait / theirs.mean_wait:.2f}")
    problems = [problem for world in worlds for problem in figures["planner", world].problems]
    print(*problems[:20], sep="\n")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
