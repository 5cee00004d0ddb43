from __future__ import annotations

from django.contrib import admin
from django.urls import include, path, re_path

from supervisor_app.pages.logins import login_page, logout_page
from supervisor_app.pages.moved import MOVED_TO, moved_admin_page

admin.autodiscover()
urlpatterns = [
    path("admin/login/", login_page),
    path("admin/logout/", logout_page),
    re_path(rf"^admin/supervisor_app/(?P<model>{'|'.join(MOVED_TO)})/(?P<rest>.*)$", moved_admin_page),
    path("admin/", admin.site.urls),
    path("", include("supervisor_app.urls")),
]
handler400 = "supervisor_app.web.errors.bad_request"
handler403 = "supervisor_app.web.errors.forbidden"
handler404 = "supervisor_app.web.errors.not_found"
handler500 = "supervisor_app.web.errors.server_error"
