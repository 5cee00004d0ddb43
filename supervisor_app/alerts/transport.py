"""Sends one alert to one address, now. Blocks for some seconds: never in the event loop.

`http://` and `https://` are a webhook that gets our JSON, unless Apprise knows the address as a chat's own
(Slack, Discord, ntfy.sh, …). Everything else, e-mail too, is an address of Apprise.
"""

from __future__ import annotations

import logging
import re
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from supervisor_app.alerts.rules import AlertEvent
from supervisor_app.common.redact import HIDDEN
from supervisor_app.common.words import span

if TYPE_CHECKING:
    from collections.abc import Mapping

    import apprise

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
LONGEST_TEXT = 1500
"""Characters: Discord takes 2000, a text message less."""
LONGEST_ERROR = 500
ID_HEADER = "X-Llamaproxy-Delivery"
"""The same for every try of one message: who sees it twice can drop the second."""
WEB = frozenset({"http", "https"})
HOST_IS_NO_SECRET = WEB | {"mailto", "mailtos"}
SHORTEST_SECRET = 4
TYPES = {
    AlertEvent.RECOVERED: "success",
    AlertEvent.STILL_DOWN: "warning",
    AlertEvent.TEST: "info",
}
WHY_IT_FAILED = re.compile(r"(?:Socket|I/O) Exception: ")
"""Apprise warns that it failed and says why on its debug level."""


class BadAddressError(Exception):
    """The message says what would do, and nothing of the address."""


class SendError(Exception):
    """A message was not delivered. The text is for people and holds nothing secret of the address."""


def check(url: str) -> None:
    """Raises BadAddressError. Looks at the words only; whether anybody listens there a test message tells."""
    scheme, rest = _scheme(url), url.partition("://")[2]
    if not scheme or not rest.strip("/ "):
        raise BadAddressError("An address begins with https://, slack://, ntfy:// or the like.")
    if _service(url) is not None:
        return
    if scheme not in WEB:
        raise BadAddressError(
            f"Apprise cannot read this {scheme}:// address. "
            "Its forms are listed at https://github.com/caronc/apprise#supported-notifications"
        )
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that make no sense
        usable = False
    if not usable or re.search(r"\s", url):
        raise BadAddressError("This is no complete address. https://example.org/hook would be one.")


def mask(url: str) -> str:
    """Return what may be shown of an address: its kind and, of a web address, its host."""
    scheme = _scheme(url)
    if scheme in WEB:
        return f"{scheme}://{_host(url)}/…"
    return f"{scheme}://…" if scheme else "…"


def send(url: str, alert: Mapping[str, Any], delivery: str = "") -> None:
    """Raises SendError. `alert` is the webhook's body; other services get its title and text."""
    service = _service(url)
    try:
        if service is None:
            _post(url, alert, delivery)
        else:
            _notify(service, alert)
    except SendError as error:
        raise SendError(_hide(str(error), url)[:LONGEST_ERROR]) from None
    except Exception as error:  # a service of Apprise may raise anything: it is one more failed try
        raise SendError(_hide(f"{type(error).__name__}: {error}", url)[:LONGEST_ERROR]) from None


def _post(url: str, alert: Mapping[str, Any], delivery: str) -> None:
    import requests  # 10 MB for every process that only reads the models

    try:
        with requests.post(
            url,
            json=alert,
            headers={"User-Agent": "llamaproxy", **({ID_HEADER: delivery} if delivery else {})},
            timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
            allow_redirects=False,  # a POST that is redirected arrives as a GET without a body
            stream=True,  # its words do not matter, only its status
        ) as answer:
            if not 200 <= answer.status_code < 300:
                raise SendError(f"It answered {answer.status_code} {answer.reason}.".replace(" .", "."))
    except requests.ConnectTimeout as error:
        raise SendError(f"No connection within {span(CONNECT_SECONDS)}.") from error
    except requests.Timeout as error:
        raise SendError(f"No answer within {span(ANSWER_SECONDS)}.") from error
    except requests.RequestException as error:
        raise SendError(f"No connection: {error}") from error


def _notify(service: apprise.NotifyBase, alert: Mapping[str, Any]) -> None:
    from apprise import Apprise, NotifyFormat, NotifyType

    sender = Apprise(service, asset=service.asset)
    result = sender.notify(
        body=str(alert["text"])[:LONGEST_TEXT],
        title=str(alert["title"]),
        notify_type=NotifyType(TYPES.get(AlertEvent(alert["event"]), "failure")),
        body_format=NotifyFormat.TEXT,
        log_level=logging.DEBUG,
    )
    if not result:
        said = [
            entry.message
            for entry in result.logs()
            if entry.level in ("WARNING", "ERROR", "CRITICAL") or WHY_IT_FAILED.match(entry.message)
        ]
        raise SendError(" ".join(said) or f"{service.service_name} did not take it and did not say why.")


def _service(url: str) -> apprise.NotifyBase | None:
    """Apprise's service for an address; None for our webhook and for what nobody knows."""
    # Half a second and 27 MB on the first call: not for those who have no channel.
    from apprise import Apprise

    return Apprise.instantiate(url, asset=_asset(), suppress_exceptions=True)


@cache
def _asset() -> apprise.AppriseAsset:
    import apprise

    # It would tell the console, with parts of an address; we tell what came of it. To hear its debug level
    # ourselves it must be on.
    words = logging.getLogger("apprise")
    words.setLevel(logging.DEBUG)
    words.addHandler(logging.NullHandler())
    words.propagate = False
    return apprise.AppriseAsset(
        app_id="llamaproxy",
        app_desc="llamaproxy",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        async_mode=False,  # in the thread that asks
        service_timeout=0,  # no thread pool of its own, which would hold up the end of the process
        allow_templates=False,
    )


def _scheme(url: str) -> str:
    """Return the scheme of an address in small letters; empty when it has none."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+-]{0,19})://", url)
    return found[1].lower() if found else ""


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _hide(text: str, url: str) -> str:
    """An error without what is secret in its address: everything but the scheme and a public host."""
    rest = url.partition("://")[2]
    open_words = {_host(url)} if _scheme(url) in HOST_IS_NO_SECRET else set()
    pieces = {unquote(piece) for piece in re.split(r"[/:@?&=#,]", rest)} | {*re.split(r"[/:@?&=#,]", rest)}
    for secret in [url, rest, *sorted(pieces - open_words, key=len, reverse=True)]:
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, HIDDEN)
    return text
