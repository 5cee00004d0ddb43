"""The build of the pages: an open page of another one has templates and scripts that are gone."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from django.conf import settings


@cache
def build() -> str:
    """Return a fingerprint of templates, styles and scripts: the same on hosts that have the same files."""
    digest = hashlib.sha256()
    for folder in ("templates", "static"):
        for path in sorted(filter(Path.is_file, (settings.FILES_DIR / folder).rglob("*"))):
            digest.update(str(path.relative_to(settings.FILES_DIR)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
