"""Models of a hub: what a repository holds, and its files, fetched by a process of its own."""
