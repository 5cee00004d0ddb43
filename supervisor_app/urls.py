from __future__ import annotations

from django.templatetags.static import static
from django.urls import path, register_converter
from django.views.generic import RedirectView

from supervisor_app import views
from supervisor_app.api import probes, runs, servers
from supervisor_app.converters import CommandConverter, NameConverter
from supervisor_app.gateway import views as gateway

register_converter(CommandConverter, "command")
register_converter(NameConverter, "name")

urlpatterns = [
    path("", views.home, name="home"),
    path("servers/<name:name>/", views.server, name="server"),
    path("servers/<name:name>/<command:command>", views.control, name="control"),
    path("servers/<name:name>/rollback", views.rollback, name="rollback"),
    path("servers/<name:name>/runs/", views.runs, name="runs"),
    path("servers/<name:name>/runs/<int:number>/", views.run, name="run"),
    path("servers/<name:name>/requests", gateway.requests, name="requests"),
    path("servers/<name:name>/quarantine/<int:number>/release", gateway.release, name="release"),
    path("login/<str:token>/", views.login_link, name="login-link"),
    path("password/", views.set_password, name="set-password"),
    path("api/servers/", servers.servers, name="api-servers"),
    path("api/servers/<name:name>/", servers.server, name="api-server"),
    path("api/servers/<name:name>/<command:command>", servers.control, name="api-control"),
    path("api/servers/<name:name>/rollback", servers.rollback, name="api-rollback"),
    path("api/servers/<name:name>/log", servers.log, name="api-log"),
    path("api/servers/<name:name>/runs/", runs.runs, name="api-runs"),
    path("api/servers/<name:name>/runs/<int:number>/", runs.run, name="api-run"),
    path("livez", probes.livez, name="livez"),
    path("readyz", probes.readyz, name="readyz"),
    path("metrics", probes.metrics, name="metrics"),
    # Django's admin names no icon, so browsers ask for this one.
    path("favicon.ico", RedirectView.as_view(url=static("supervisor/favicon.svg"))),
]
