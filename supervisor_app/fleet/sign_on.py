"""Logins at a provider: its addresses, its tokens checked, and the account of the person.

Loaded where single sign-on is set up, with the extra `sso`. The library exchanges the code, finds the key and
asks for more claims; a token is held against more here than there (OpenID Connect Core 1.0, 3.1.3.7).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
import requests
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured, PermissionDenied, SuspiciousOperation
from django.utils.translation import gettext as _
from mozilla_django_oidc.auth import OIDCAuthenticationBackend

from supervisor_app.common.outage import Outage
from supervisor_app.common.redact import harmless, redact
from supervisor_app.fleet.sign_on_accounts import admit
from supervisor_app.web.sign_on import ProviderAwayError, is_sound_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.contrib.auth.models import User
    from django.http import HttpRequest

    from supervisor_app.web.sign_on import Begun, SignOn

log = logging.getLogger(__name__)

ALGORITHM = "RS256"
TIMEOUT_SECONDS = 5.0
"""Limit of each connection, and of each wait for bytes."""
CLOCKS_APART_SECONDS = 60
DOCUMENT_KEPT_SECONDS = 300
NEEDED = ("exp", "iat", "iss", "aud", "sub")
LONGEST_REASON = 300
LONGEST_SUBJECT = 255
"""Characters (OpenID Connect Core 1.0, 2)."""
KNOWN = "sign-on-provider"
_outage = Outage(
    log,
    "🔐 [WEB] Single sign-on: the provider does not answer as one; passwords work. {reason}",
    "🔐 [WEB] Single sign-on: the provider answers again.",
)


@dataclass(frozen=True, kw_only=True)
class Provider:
    """Addresses of a provider (OpenID Connect Discovery 1.0, 3)."""

    issuer: str
    authorization: str
    token: str
    keys: str
    userinfo: str | None
    takes_basic: bool
    """The secret goes into a header, which is the default there, and not into the form."""


def provider_in(document: Mapping[str, Any], issuer: str) -> Provider:
    """Read a discovery document. Raises ValueError: an address is missing, or the issuer is another."""
    if document.get("issuer") != issuer:
        raise ValueError(
            f"It calls itself {document.get('issuer')!r}, and LLAMAPROXY_SSO_ISSUER is {issuer!r}."
        )
    has_userinfo = "userinfo_endpoint" in document
    for name in (
        "authorization_endpoint",
        "token_endpoint",
        "jwks_uri",
        *["userinfo_endpoint"] * has_userinfo,
    ):
        if not is_sound_address(str(document.get(name, ""))):
            raise ValueError(f"Its {name} is {document.get(name)!r}, which is no https:// address.")
    return Provider(
        issuer=issuer,
        authorization=document["authorization_endpoint"],
        token=document["token_endpoint"],
        keys=document["jwks_uri"],
        userinfo=document.get("userinfo_endpoint"),
        takes_basic="client_secret_basic"
        in document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"]),
    )


def provider_of(sign_on: SignOn) -> Provider:
    """Return the addresses of the provider, asked for when they are not known. Raises ProviderAwayError."""
    known = cache.get(KNOWN)
    if isinstance(known, Provider) and known.issuer == sign_on.issuer:
        return known
    try:
        answer = requests.get(
            f"{sign_on.issuer.rstrip('/')}/.well-known/openid-configuration", timeout=TIMEOUT_SECONDS
        )
        answer.raise_for_status()
        provider = provider_in(answer.json(), sign_on.issuer)
    except (requests.RequestException, ValueError, AttributeError, TypeError) as error:
        raise _away(error) from error
    _outage.over()
    cache.set(KNOWN, provider, DOCUMENT_KEPT_SECONDS)
    return provider


def _away(error: Exception) -> ProviderAwayError:
    _outage.failed(error if isinstance(error, OSError) else OSError(str(error)))  # no fault of ours
    return ProviderAwayError(
        _("The provider of logins does not answer as it should. Try again later, or log in with a password.")
    )


def _set_up() -> SignOn:
    sign_on = settings.LLAMAPROXY_SSO
    if sign_on is None:
        raise ImproperlyConfigured("This backend of logins needs single sign-on to be set up.")
    return sign_on


class SignOnBackend(OIDCAuthenticationBackend):
    """A login by the code that the provider has given to a browser."""

    def __init__(self) -> None:
        # Made anew for each request of those who came by it: nothing may be asked of the provider here.
        self.UserModel = get_user_model()
        self.sign_on = _set_up()

    def authenticate(self, request: HttpRequest, *, username: str, begun: Begun) -> User:
        """Return the user of the code in a request. `username`: the name that the throttle counts by.

        Raises PermissionDenied for a code or token that does not hold, SignOnRefusedError, ProviderAwayError.
        """
        self.provider = provider_of(self.sign_on)
        self.OIDC_OP_TOKEN_ENDPOINT = self.provider.token
        self.OIDC_OP_JWKS_ENDPOINT = self.provider.keys
        self.OIDC_OP_USER_ENDPOINT = self.provider.userinfo
        self.OIDC_RP_CLIENT_ID = self.sign_on.client_id
        self.OIDC_RP_CLIENT_SECRET = self.sign_on.client_secret
        self.OIDC_RP_SIGN_ALGO, self.OIDC_RP_IDP_SIGN_KEY = ALGORITHM, None
        claims = self._claims(request, begun)
        _outage.over()
        return admit(claims, self.sign_on)

    def _claims(self, request: HttpRequest, begun: Begun) -> dict[str, Any]:
        try:
            claims = super().authenticate(request, nonce=begun.nonce, code_verifier=begun.verifier)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise _away(error) from error
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code >= 500:
                raise _away(error) from error
            raise self._denied(error) from error
        except (
            requests.RequestException,
            jwt.PyJWTError,
            SuspiciousOperation,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            raise self._denied(error) from error
        if not isinstance(claims, dict):
            raise self._denied(ValueError("there was no code, or no claim"))
        return claims

    def _denied(self, error: Exception) -> PermissionDenied:
        words = redact(harmless(f"{type(error).__name__}: {error}"), [self.sign_on.client_secret])
        log.warning("🔐 [WEB] Single sign-on: a login does not hold. %s", words[:LONGEST_REASON])
        return PermissionDenied()

    # --- What the library asks of its backend ---

    def get_settings(self, name: str, *default: Any) -> Any:
        """Return what the library wants to know: nothing of it is a setting of its own here."""
        ours = {
            "OIDC_AUTHENTICATION_CALLBACK_URL": "sso-callback",
            "OIDC_TIMEOUT": TIMEOUT_SECONDS,
            "OIDC_TOKEN_USE_BASIC_AUTH": self.provider.takes_basic,
        }
        return ours.get(name, *default)

    def get_payload_data(self, token: str, key: Any) -> dict[str, Any]:
        """Return the claims of a token that is signed, of this issuer, for this client, and in time."""
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=self.sign_on.client_id,
            issuer=self.sign_on.issuer,
            leeway=CLOCKS_APART_SECONDS,
            options={"require": list(NEEDED)},
        )
        if claims.get("azp", self.sign_on.client_id) != self.sign_on.client_id:
            raise SuspiciousOperation("The token was issued to another client.")
        if len(claims["sub"]) > LONGEST_SUBJECT:
            raise SuspiciousOperation(f"The subject has more than {LONGEST_SUBJECT} characters.")
        return claims

    def get_or_create_user(self, access_token: str, id_token: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Return all claims: the account is found where no error of the provider can be meant."""
        if self.provider.userinfo is None:
            return payload
        told = self.get_userinfo(access_token, id_token, payload)
        if told.get("sub") != payload["sub"]:
            raise SuspiciousOperation("The claims are somebody else's than the token.")
        return {**told, **payload}

    def get_user(self, user_id: int) -> Any:
        """Return a user by the key in a session, as for passwords: nobody whose account is switched off."""
        return ModelBackend.get_user(self, user_id)
