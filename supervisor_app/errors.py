"""What goes wrong before or around a view: JSON for /api, a page for people."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render


def api_error(status: int, code: str, message: str, hint: str) -> JsonResponse:
    """The error shape of /api."""
    return JsonResponse({"error": {"code": code, "message": message, "hint": hint}}, status=status)


CODES = {
    400: ("bad_request", "The request is malformed.", "See /api/servers/."),
    403: ("forbidden", "Not allowed.", "Log in as staff, and ask from one of llamaproxy's own pages."),
    404: ("not_found", "There is nothing at this address.", "See /api/servers/."),
    405: ("method_not_allowed", "This address does not take that method.", "Use another one."),
    413: ("too_large", "The request is too large.", "Send less."),
    429: ("too_many_requests", "Too many requests.", "Wait a moment and try again."),
    500: ("internal", "llamaproxy failed at this.", "Its log says why."),
}
"""What is said of a status where nobody has said more."""


def in_json(response: HttpResponseBase) -> HttpResponseBase:
    """An error of /api as JSON, whoever made it; what else its head says stays."""
    is_json = response.headers.get("Content-Type", "").startswith("application/json")
    if response.status_code < 400 or is_json:
        return response
    code, message, hint = CODES.get(
        response.status_code, ("error", response.reason_phrase, "See /api/servers/.")
    )
    if allowed := response.headers.get("Allow"):
        hint = f"Use {allowed}."
    error = api_error(response.status_code, code, message, hint)
    for name, value in response.headers.items():
        if name not in ("Content-Type", "Content-Length"):
            error.headers.setdefault(name, value)
    error.cookies = response.cookies
    return error


def method_not_allowed(allowed: str) -> JsonResponse:
    error = api_error(405, "method_not_allowed", "This address does not take that method.", f"Use {allowed}.")
    error["Allow"] = allowed
    return error


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 400, "bad_request", "The request is malformed.", "Check the Host header.")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 403, "forbidden", str(exception) or "Not allowed.", "Log in as staff.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 404, "not_found", f"There is nothing at {request.path}.", "See /api/servers/.")


def server_error(request: HttpRequest) -> HttpResponse:
    return _answer(request, 500, "internal", "llamaproxy failed at this.", "Its log says why.")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    if is_api(request):
        hint = "Send the csrftoken cookie's value as X-CSRFToken."
        return api_error(403, "csrf_failed", reason or "CSRF check failed.", hint)
    return render(request, "403_csrf.html", {"reason": reason}, status=403)


def _answer(request: HttpRequest, status: int, code: str, message: str, hint: str) -> HttpResponse:
    if is_api(request):
        return api_error(status, code, message, hint)
    return render(request, f"{status}.html", {"message": message}, status=status)


def is_api(request: HttpRequest) -> bool:
    return request.path == "/api" or request.path.startswith("/api/")
