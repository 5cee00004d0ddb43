"""Pages for people, one module each. Commands to servers go through `commands`."""
