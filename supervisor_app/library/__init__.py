"""Models as files: what is in them, and what they need. Knows `common` alone."""
