"""Answers for orchestrators and Prometheus: is this process alive, is it ready, what does it count?"""

from __future__ import annotations

import logging

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST

from supervisor_app.api.endpoint import endpoint
from supervisor_app.common.outage import Outage
from supervisor_app.fleet.metrics import render_metrics
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.web.rights import Right, declare

log = logging.getLogger(__name__)


@declare(Right.ENTER)
@never_cache
@require_safe
def livez(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


_database_outage = Outage(
    log,
    "⚠️ [WEB] Not ready, the database cannot be used: {reason}",
    "✅ [WEB] Ready, the database can be used again",
)


@declare(Right.ENTER)
@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Read a table of ours: a database that is there but not migrated is not ready either.

    The driver's words name the database's host and user, so they go to the console and not to the asker.
    """
    try:
        LlamaServer.objects.exists()
    except (DatabaseError, InterfaceError) as error:
        _database_outage.failed(error)
        said = f"database: {type(error).__name__}; the console of llamaproxy says more\n"
        return HttpResponse(said, status=503, content_type="text/plain")
    _database_outage.over()
    return HttpResponse("ok\n", content_type="text/plain")


@endpoint()
def metrics(request: HttpRequest) -> HttpResponse:
    return HttpResponse(render_metrics(), content_type=CONTENT_TYPE_LATEST)
