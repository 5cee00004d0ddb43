"""The planner of memory in worlds that a seed decides: ten and more models, memory for a few of them.

Real is `core.placement`. Modelled is all around it: devices and strangers (`machine`), servers and how well their
needs are known (`servers`), programs that ask (`clients`), and the node that measures and does what is planned
(`node`). `checks` says what must hold, `lru` is what most others do instead, and `python -m
tests.simulation.placement` compares the two.
"""
