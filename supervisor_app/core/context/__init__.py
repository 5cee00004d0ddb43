"""Conversations kept over a planned end: what is saved, what may be restored, was it of use? Pure."""
