"""The page of past requests as a person reads it, and what is in quarantine there."""

from __future__ import annotations

import html
import re

import pytest
from django.utils import timezone

from supervisor_app.gateway.edge import quarantine
from supervisor_app.gateway.records.record import QuarantineEntry
from supervisor_app.traffic.models import QuarantinedRequest

SERVER = "/servers/default/"
PAGE = "/servers/default/requests/"
ALL = "/requests/"
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def quarantined():
    return put_in_quarantine()


def put_in_quarantine(until=3600, **fields):
    now = timezone.now().timestamp()
    entry = {"server": "default", "body_hash": "ab" * 32, "run_name": "run 3", "reason": "It died."}
    quarantine.put(QuarantineEntry(**entry | fields, at=now, until=now + until))
    return QuarantinedRequest.objects.latest("pk")


def section(answer):
    assert answer.status_code == 200
    shown = html.unescape(answer.content.decode())
    return shown[shown.find("<main") :].partition("</main>")[0]


def words(answer):
    """The text of a page as a person reads it."""
    return " ".join(re.sub(r"<[^>]+>", " ", section(answer)).split())
