"""The workers: processes behind one address, and the state that they share."""
