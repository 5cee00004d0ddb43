"""Diagnosis: from how a run ended, and from its last lines, to one `Failure` in plain words. Pure."""
