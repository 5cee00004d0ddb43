"""Contents of pages, as pure functions of data."""
