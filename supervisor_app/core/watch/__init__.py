"""Observation of a run: progress of loading, its activity, and whether its work moves."""
