"""The web listener as strangers meet it: how many may come, how much they may send, how long it may take."""
