"""Bodies of requests, as JSON."""

from __future__ import annotations

import json


def body_of(**fields):
    return json.dumps(fields).encode()


def user(text):
    return {"role": "user", "content": text}
