from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from supervisor_app.pages.logins import staff_login

urlpatterns = [
    path("admin/login/", staff_login),
    path("admin/", admin.site.urls),
    path("", include("supervisor_app.urls")),
]
handler400 = "supervisor_app.web.errors.bad_request"
handler403 = "supervisor_app.web.errors.forbidden"
handler404 = "supervisor_app.web.errors.not_found"
handler500 = "supervisor_app.web.errors.server_error"
