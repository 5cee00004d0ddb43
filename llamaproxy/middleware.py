"""What every answer goes through."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase, JsonResponse

GetResponse = Callable[[HttpRequest], HttpResponseBase]

API_ERRORS = {
    400: ("bad_request", "That request could not be understood.", "Is this host name in ALLOWED_HOSTS?"),
    403: ("csrf_failed", "The CSRF token is missing.", "Send the cookie csrftoken again as X-CSRFToken."),
    404: ("not_found", "There is nothing at this address.", "The servers are at /api/servers/."),
    405: ("method_not_allowed", "This address does not take that method.", "Use what Allow says."),
    500: ("internal_error", "llamaproxy failed at it.", "The reason is in its log."),
}


def content_security_policy(get_response: GetResponse) -> GetResponse:
    """One constant header. Django 6 has it built in, under the same setting name."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", settings.SECURE_CSP)
        return response

    return middleware


def api_errors(get_response: GetResponse) -> GetResponse:
    """Programs get JSON also for the errors that Django itself answers."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        known = API_ERRORS.get(response.status_code)
        if known is None or not request.path.startswith("/api/") or isinstance(response, JsonResponse):
            return response
        code, message, hint = known
        headers = {"Allow": response["Allow"]} if "Allow" in response else {}
        error = {"code": code, "message": message, "hint": hint}
        return JsonResponse({"error": error}, status=response.status_code, headers=headers)

    return middleware
