"""The host: processes, sockets, logs, memory and files. Supervision knows it by `core.ports` alone."""
