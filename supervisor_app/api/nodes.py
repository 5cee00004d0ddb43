"""Nodes and their devices."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse

from supervisor_app.api.endpoint import endpoint
from supervisor_app.fleet.devices import known_devices


@endpoint()
def nodes(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"nodes": [node.as_json() for node in known_devices()]})
