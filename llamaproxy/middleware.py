"""Middleware: one constant header, a wall against other sites' pages, and styles and scripts compressed."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.urls import reverse
from whitenoise.middleware import WhiteNoiseFileResponse

from llamaproxy.login_throttle import sender_address
from supervisor_app.common.sub_path import inner_path
from supervisor_app.fleet.audit import Door, Origin, acting
from supervisor_app.web.errors import in_json, is_api

GetResponse = Callable[[HttpRequest], HttpResponseBase]


def content_security_policy(get_response: GetResponse) -> GetResponse:
    """Add the header. Django 6 has it built in, under the same setting name."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", settings.SECURE_CSP)
        return response

    return middleware


def api_errors_in_json(get_response: GetResponse) -> GetResponse:
    """Programs read what /api answers: also what a decorator, another middleware or Django itself refuses."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        return in_json(response) if is_api(request) else response

    return middleware


def own_pages_only(get_response: GetResponse) -> GetResponse:
    """Refuse what another site's page asks for in the background (https://web.dev/articles/fetch-metadata).

    A link to one of our pages may be followed from anywhere. A program sends no such header and may ask.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        follows_link = request.method == "GET" and request.headers.get("Sec-Fetch-Mode") == "navigate"
        is_foreign = request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        # An <object> or <embed> of another page navigates, too.
        is_embedded = request.headers.get("Sec-Fetch-Dest") not in (None, "document", "empty")
        if is_foreign and (is_embedded or not follows_link):
            return HttpResponse(
                "A page of another site may not ask for this. Open it in a tab of its own.\n",
                status=403,
                content_type="text/plain",
            )
        return get_response(request)

    return middleware


def compressed_files(get_response: GetResponse) -> GetResponse:
    """Compress styles and scripts as they are sent: a page loads 30 of them, 110 kB in all.

    A part of a file stays as it is: its range counts the bytes of the file. The ETag stays, too: WhiteNoise
    compares whole tags, and has the same for all encodings of a file itself.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        is_file = isinstance(response, WhiteNoiseFileResponse) and request.method == "GET"
        if not is_file or response.status_code != 200:
            return response
        tag = response.headers["ETag"]
        zipped = GZipMiddleware(lambda _request: response).process_response(request, response)
        zipped.headers["ETag"] = tag
        return zipped

    return middleware


def acts_of_users(get_response: GetResponse) -> GetResponse:
    """Tell the audit whose request this is, through which door it came, and from where."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        def actor() -> str:
            return request.user.get_username() or "nobody logged in"

        with acting(Origin(actor=actor, door=_door(request), address=sender_address(request))):
            return get_response(request)

    return middleware


def _door(request: HttpRequest) -> Door:
    if is_api(request):
        return Door.API
    in_admin = inner_path(request.path).startswith(inner_path(reverse("admin:index")))
    return Door.ADMIN if in_admin else Door.PAGE
