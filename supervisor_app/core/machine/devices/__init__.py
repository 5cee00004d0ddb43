"""Where models can lie on this machine, and who uses how much of it: its memory, and that of each GPU."""
