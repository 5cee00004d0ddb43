"""Django's admin, for those who administer: also without `is_staff`, which says nothing of roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.admin import AdminSite
from django.contrib.auth.forms import AuthenticationForm

from supervisor_app.web.rights import Right, declare, may

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import HttpRequest
    from django.urls import URLPattern, URLResolver


class Site(AdminSite):
    """The admin's pages. Its login is that of all pages, so it takes everybody who has an account."""

    site_header = site_title = "llamaproxy"
    index_title = "Servers and history"
    login_form = AuthenticationForm

    def has_permission(self, request: HttpRequest) -> bool:
        return may(request.user, Right.ADMINISTER)

    def get_urls(self) -> list[Any]:
        """Return the admin's addresses, each with the right that `has_permission` asks for."""
        addresses = super().get_urls()
        for view in _views_of(addresses):
            declare(Right.ADMINISTER, ("GET", "HEAD", "POST"))(view)
        return addresses


def _views_of(addresses: Iterable[URLPattern | URLResolver]) -> Iterable[Any]:
    for each in addresses:
        if hasattr(each, "url_patterns"):
            yield from _views_of(each.url_patterns)
        else:
            yield each.callback
