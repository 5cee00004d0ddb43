"""The web listener as strangers meet it: limits of their number, of what they send, and of their time."""
