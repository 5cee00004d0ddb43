"""The gateway in a world that a seed decides: virtual time, connections of ours, servers and clients that misbehave.

Real are two gateways, the workers of one machine, with their board, and each line of code between a client's
bytes and a server's. Modelled are what surrounds them: the clock (`loop`), the kernel's connections
(`transport`), llama-server (`servers`, `answers`), programs that ask (`clients`, `asking`) and the supervisor
(`news`). Not modelled are uvloop, real sockets, the database, a request that kills whatever server gets it, and
the CPU: whatever is to be done at one moment takes no time.
"""
