"""A provider of logins in this process: discovery, tokens, keys and claims, as OpenID Connect has them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import time
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.integration.receiving import listening

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALL = "needs the extra sso: pip install -e '.[sso]'"
jwt = pytest.importorskip("jwt", reason=INSTALL)
pytest.importorskip("mozilla_django_oidc", reason=INSTALL)

CLIENT, SECRET = "llamaproxy", "the-secret-of-the-client"


@cache
def key(name: str) -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Provider:
    """A provider of logins that keeps what is asked in `posts`, and answers with `status` from now on."""

    url: str = ""
    codes: dict[str, tuple[dict[str, str], dict[str, Any]]] = field(default_factory=dict)
    posts: list[dict[str, str]] = field(default_factory=list)
    signer: Any = None
    algorithm: str = "RS256"
    userinfo: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    more: dict[str, Any] = field(default_factory=dict)
    """Fields that its discovery document has besides."""

    def approve(self, location: str, claims: dict[str, Any]) -> dict[str, str]:
        """Let a person in who was sent here, and return what the browser brings back."""
        asked = dict(parse_qsl(urlsplit(location).query))
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked, claims
        return {"code": code, "state": asked["state"]}

    def document(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize?kind=web",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "userinfo_endpoint": f"{self.url}/userinfo",
            **self.more,
        }

    def keys(self) -> dict[str, Any]:
        public = jwt.algorithms.RSAAlgorithm.to_jwk(key("own").public_key(), as_dict=True)
        return {"keys": [{**public, "kid": "one", "use": "sig", "alg": "RS256"}]}

    def redeem(self, asked: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Give tokens for a code, once, to the program that began, with its proof."""
        self.posts.append(asked)
        begun, claims = self.codes.pop(asked.get("code", ""), ({}, {}))
        proof = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
        proved = base64.urlsafe_b64encode(proof).rstrip(b"=").decode() == begun.get("code_challenge")
        if not proved or asked["redirect_uri"] != begun["redirect_uri"]:
            return 400, {"error": "invalid_grant", "client_secret": SECRET}
        now = int(time.time())
        said = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": "17",
            "iat": now,
            "exp": now + 60,
            "nonce": begun["nonce"],
        }
        token = jwt.encode(
            {name: value for name, value in {**said, **claims}.items() if value is not None},
            None if self.algorithm == "none" else self.signer or key("own"),
            algorithm=self.algorithm,
            headers={"kid": "one"},
        )
        return 200, {"access_token": "access", "token_type": "Bearer", "id_token": token}


@contextlib.contextmanager
def provider_of_logins() -> Iterator[Provider]:
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/.well-known/openid-configuration":
                    self.answer(200, provider.document())
                case "/keys":
                    self.answer(200, provider.keys())
                case "/userinfo" if self.headers["Authorization"] == "Bearer access":
                    self.answer(200, {"sub": "17", **provider.userinfo})
                case _:
                    self.answer(404, {})

        def do_POST(self) -> None:
            asked = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
            if self.headers["Authorization"] == f"Basic {basic}" or asked.get("client_secret") == SECRET:
                self.answer(*provider.redeem(asked))
            else:
                self.answer(401, {"error": "invalid_client"})

        def answer(self, status: int, said: dict[str, Any]) -> None:
            body = json.dumps(said).encode()
            self.send_response(status if provider.status == 200 else provider.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with listening(Handler) as provider.url:
        yield provider
