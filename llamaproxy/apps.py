"""Apps of Django's as this project has them."""

from __future__ import annotations

from django.contrib.admin.apps import SimpleAdminConfig


class AdminConfig(SimpleAdminConfig):
    """Django's admin, whose pages are made with the addresses."""

    default_site = "llamaproxy.admin_site.Site"
