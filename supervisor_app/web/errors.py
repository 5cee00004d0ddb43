"""Answers to what goes wrong before or around a view: JSON for /api, a page for people."""

from __future__ import annotations

from http.client import responses
from typing import TYPE_CHECKING

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse

from supervisor_app.common.sub_path import inner_path, script_prefix

if TYPE_CHECKING:
    from django.http.response import HttpResponseBase

USUAL = {
    400: ("bad_request", "The request is malformed.", "Check the Host header and what is sent."),
    403: ("forbidden", "Not allowed.", "Log in, and ask from one of llamaproxy's own pages."),
    404: ("not_found", "There is nothing at this address.", "See {servers}."),
    405: ("method_not_allowed", "This address does not take that method.", "Use another one."),
    413: ("too_large", "The request is too large.", "Send less."),
    429: ("too_many_requests", "Too many requests.", "Wait a moment and try again."),
    500: ("internal", "llamaproxy failed at this.", "Its log says why."),
    503: ("busy", "llamaproxy has too much to do.", "Wait a minute and try again."),
}
"""Code, message and hint of a status, where nobody says more. `{servers}` is where the API lists them."""


def api_error(status: int, code: str, message: str, hint: str) -> JsonResponse:
    """The error shape of /api."""
    return JsonResponse({"error": {"code": code, "message": message, "hint": hint}}, status=status)


def usual_error(status: int, *, message: str = "", hint: str = "") -> JsonResponse:
    """Return the error of /api for a status, in its usual words where none are given."""
    code, usual_message, usual_hint = USUAL.get(
        status, ("error", responses.get(status, ""), "See {servers}.")
    )
    with script_prefix():
        hint = hint or usual_hint.format(servers=reverse("api-servers"))
    return api_error(status, code, message or usual_message, hint)


def refusal(path: str, status: int, sentence: str) -> HttpResponse:
    """Answer a request that does not get as far as Django: JSON for /api, else a line of text."""
    if is_api_path(path):
        return usual_error(status, message=sentence)
    return HttpResponse(f"{sentence}\n", status=status, content_type="text/plain; charset=utf-8")


def in_json(response: HttpResponseBase) -> HttpResponseBase:
    """Return an error of /api as JSON, whoever made it; what else its head says stays."""
    is_json = response.headers.get("Content-Type", "").startswith("application/json")
    if response.status_code < 400 or is_json:
        return response
    allowed = response.headers.get("Allow")
    error = usual_error(response.status_code, hint=f"Use {allowed}." if allowed else "")
    for name, value in response.headers.items():
        if name not in ("Content-Type", "Content-Length"):
            error.headers.setdefault(name, value)
    error.cookies = response.cookies
    return error


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 403, str(exception))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 404, f"There is nothing at {request.path}.")


def server_error(request: HttpRequest) -> HttpResponse:
    return _answer(request, 500)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    if is_api(request):
        hint = "Send the csrftoken cookie's value as X-CSRFToken."
        return api_error(403, "csrf_failed", reason or "CSRF check failed.", hint)
    return render(request, "403_csrf.html", {"reason": reason}, status=403)


def _answer(request: HttpRequest, status: int, message: str = "") -> HttpResponse:
    if is_api(request):
        return usual_error(status, message=message)
    return render(request, f"{status}.html", {"message": message}, status=status)


def is_api(request: HttpRequest) -> bool:
    return is_api_path(request.path)


def is_api_path(path: str) -> bool:
    return inner_path(path).split("/")[1:2] == ["api"]
