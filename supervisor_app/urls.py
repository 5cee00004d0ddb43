from __future__ import annotations

from django.templatetags.static import static
from django.urls import path, register_converter
from django.views.generic import RedirectView

from supervisor_app import views
from supervisor_app.commands import Command
from supervisor_app.gateway import views as gateway


class CommandConverter:
    regex = "|".join(Command)

    def to_python(self, value: str) -> Command:
        return Command(value)

    def to_url(self, value: str) -> str:
        return str(value)


register_converter(CommandConverter, "command")

urlpatterns = [
    path("", views.home, name="home"),
    path("servers/<slug:name>/", views.server, name="server"),
    path("servers/<slug:name>/<command:command>", views.control, name="control"),
    path("servers/<slug:name>/rollback", views.rollback, name="rollback"),
    path("servers/<slug:name>/runs/", views.runs, name="runs"),
    path("servers/<slug:name>/runs/<int:number>/", views.run, name="run"),
    path("servers/<slug:name>/requests", gateway.requests, name="requests"),
    path("servers/<slug:name>/quarantine/<int:number>/release", gateway.release, name="release"),
    path("login/<str:token>/", views.login_link, name="login-link"),
    path("password/", views.set_password, name="set-password"),
    path("api/servers/", views.api_servers, name="api-servers"),
    path("api/servers/<slug:name>/", views.api_server, name="api-server"),
    path("api/servers/<slug:name>/<command:command>", views.api_control, name="api-control"),
    path("api/servers/<slug:name>/rollback", views.api_rollback, name="api-rollback"),
    path("api/servers/<slug:name>/log", views.api_log, name="api-log"),
    path("api/servers/<slug:name>/runs/", views.api_runs, name="api-runs"),
    path("api/servers/<slug:name>/runs/<int:number>/", views.api_run, name="api-run"),
    path("livez", views.livez, name="livez"),
    path("readyz", views.readyz, name="readyz"),
    path("metrics", views.metrics, name="metrics"),
    # Django's admin names no icon, so browsers ask for this one.
    path("favicon.ico", RedirectView.as_view(url=static("supervisor/favicon.svg"))),
]
