"""The check of who may open a WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from channels.security.websocket import OriginValidator
from django.conf import settings

if TYPE_CHECKING:
    from urllib.parse import ParseResult


class BrowserOriginValidator(OriginValidator):
    """A browser must come from one of our hosts. A script, which sends no Origin, may connect.

    The check is against other people's pages that use a visitor's cookies; browsers always send an Origin
    with a WebSocket, and scripts carry nobody's cookies by accident.
    """

    def valid_origin(self, parsed_origin: ParseResult | None) -> bool:
        return parsed_origin is None or bool(self.validate_origin(parsed_origin))


def browser_origin_validator(application: object) -> BrowserOriginValidator:
    return BrowserOriginValidator(application, settings.ALLOWED_HOSTS)
