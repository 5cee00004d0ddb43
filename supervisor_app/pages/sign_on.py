"""Single sign-on: to the provider, and back with its answer.

A login that has begun is in a signed cookie of ten minutes, not in a session: strangers write no rows.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import REDIRECT_FIELD_NAME, authenticate, login
from django.contrib.auth.views import redirect_to_login
from django.core import signing
from django.http import Http404, HttpResponseRedirect
from django.urls import reverse
from django.utils.crypto import constant_time_compare, get_random_string
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from supervisor_app.fleet.audit import note
from supervisor_app.web.rights import Right, declare
from supervisor_app.web.sign_on import SINGLE_SIGN_ON, Begun, SignOn, SignOnError, SignOnRefusedError

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

COOKIE = "llamaproxy-sign-on"
BEGUN_FOR = timedelta(minutes=10)
LONGEST_ADDRESS = 1000
"""Characters of a page to come back to: a browser drops a cookie of more than 4096 bytes."""
LASTS = timedelta(hours=12)
"""Time of a login, after which the provider is asked again whether, and in which role."""


@declare(Right.ENTER, ("GET",))
@never_cache
@require_GET
def begin(request: HttpRequest) -> HttpResponse:
    """Send a browser to the provider."""
    sign_on, then = _set_up(), _own_address(request)
    from mozilla_django_oidc.utils import generate_code_challenge  # with the extra alone

    from supervisor_app.fleet.sign_on import provider_of

    begun = Begun(
        state=get_random_string(32), nonce=get_random_string(32), verifier=get_random_string(64), then=then
    )
    try:
        provider = provider_of(sign_on)
    except SignOnError as error:
        return _back_to_login(request, error, then)
    asked = {
        "response_type": "code",
        "client_id": sign_on.client_id,
        "scope": sign_on.scopes,
        "redirect_uri": request.build_absolute_uri(reverse("sso-callback")),
        "state": begun.state,
        "nonce": begun.nonce,
        "code_challenge": generate_code_challenge(begun.verifier, "S256"),
        "code_challenge_method": "S256",
    }
    joint = "&" if "?" in provider.authorization else "?"
    answer = HttpResponseRedirect(f"{provider.authorization}{joint}{urlencode(asked)}")
    answer.set_cookie(
        COOKIE,
        signing.dumps(asdict(begun), salt=COOKIE),
        max_age=BEGUN_FOR,
        path=reverse("sso-callback"),
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )
    return answer


@declare(Right.ENTER, ("GET",))
@never_cache
@require_GET
def callback(request: HttpRequest) -> HttpResponse:
    """Log in whom the provider sends back, or say on the login page why not."""
    _set_up()
    begun = _begun(request)
    try:
        answer = _enter(request, begun)
    except SignOnError as error:
        if isinstance(error, SignOnRefusedError):
            note("fail to log in", SINGLE_SIGN_ON, None, {"reason": str(error)})
        answer = _back_to_login(request, error, begun.then if begun else reverse("home"))
    answer.delete_cookie(COOKIE, path=reverse("sso-callback"), samesite="Lax")
    return answer


def _enter(request: HttpRequest, begun: Begun | None) -> HttpResponse:
    """Log a person in. Raises SignOnError."""
    if begun is None or not constant_time_compare(begun.state, request.GET.get("state", "")):
        raise SignOnError(_("This login was not begun last in this browser, or is too old. Try again."))
    if "error" in request.GET:
        said = request.GET["error"][:40]
        raise SignOnError(_("The provider refuses the login: %(reason)s.") % {"reason": said})
    user = authenticate(request, username=SINGLE_SIGN_ON, begun=begun)
    if user is None:
        raise SignOnError(_("The provider's answer does not hold. Try again; the console says why."))
    login(request, user)
    request.session.set_expiry(LASTS)
    return HttpResponseRedirect(begun.then)


def _set_up() -> SignOn:
    sign_on: SignOn | None = settings.LLAMAPROXY_SSO
    if sign_on is None:
        raise Http404(_("Single sign-on is not set up."))
    return sign_on


def _begun(request: HttpRequest) -> Begun | None:
    try:
        said = signing.loads(request.COOKIES.get(COOKIE, ""), salt=COOKIE, max_age=BEGUN_FOR)
    except signing.BadSignature:
        return None
    return Begun(**said)


def _own_address(request: HttpRequest) -> str:
    """Return where a person wants to go, if that is here; else the overview."""
    wanted = request.GET.get(REDIRECT_FIELD_NAME, "")
    is_own = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if is_own and len(wanted) <= LONGEST_ADDRESS else reverse("home")


def _back_to_login(request: HttpRequest, error: SignOnError, then: str) -> HttpResponse:
    messages.error(request, str(error))
    return redirect_to_login(then, reverse(settings.LOGIN_URL))
