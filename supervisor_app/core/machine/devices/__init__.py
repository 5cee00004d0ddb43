"""The memory of this machine and of each GPU, in which models can lie, and who uses how much of it."""
