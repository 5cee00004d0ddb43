"""Room in memory for servers: `plan(world, demands, policy, now)` says who starts, goes, waits or never fits.

Pure: it looks at no clock, device or process. The caller measures, performs the decisions, and asks again
with each change.
"""
