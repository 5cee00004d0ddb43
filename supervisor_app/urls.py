from __future__ import annotations

from django.templatetags.static import static
from django.urls import path, register_converter
from django.views.generic import RedirectView

from supervisor_app.api import availability as api_availability
from supervisor_app.api import logs as api_logs
from supervisor_app.api import maintenance as api_maintenance
from supervisor_app.api import nodes as api_nodes
from supervisor_app.api import probes
from supervisor_app.api import runs as api_runs
from supervisor_app.api import samples as api_samples
from supervisor_app.api import servers as api_servers
from supervisor_app.fleet.converters import NameConverter, WishConverter
from supervisor_app.pages import (
    adding,
    alerts,
    audit,
    compare,
    config,
    crashes,
    devices,
    downloads,
    keys,
    log,
    logins,
    maintenance,
    modelfiles,
    now,
    overview,
    palette,
    playground,
    requests,
    runs,
    servers,
    styleguide,
    usage,
    watches,
)
from supervisor_app.pages.availability import availability
from supervisor_app.web.rights import Right, declare

register_converter(WishConverter, "wish")
register_converter(NameConverter, "name")

urlpatterns = [
    path("", servers.home, name="home"),
    path("servers/<name:name>/", servers.server, name="server"),
    path("servers/<name:name>/<wish:wish>", servers.control, name="control"),
    path("servers/<name:name>/rollback", servers.rollback, name="rollback"),
    path("servers/<name:name>/now", now.now, name="now"),
    path("servers/<name:name>/config/", config.config, name="config"),
    path("servers/<name:name>/config/preview", config.preview_config, name="preview-config"),
    path("servers/<name:name>/config/change", config.change_config, name="change-config"),
    path("servers/<name:name>/config/<int:number>/restore", config.restore_config, name="restore-config"),
    path("servers/<name:name>/config/delete", adding.delete, name="delete-server"),
    path("add-server/", adding.add, name="add-server"),  # below servers/ a server of any name may be
    path("add-server/preview", adding.preview_added, name="preview-added"),
    path("add-server/create", adding.create, name="create-server"),
    path("servers/<name:name>/log/", log.log, name="log"),
    path("servers/<name:name>/watches/", watches.watch, name="watch"),
    path("servers/<name:name>/watches/<int:number>/delete", watches.unwatch, name="unwatch"),
    path("servers/<name:name>/log/download", log.download, name="log-download"),
    path("servers/<name:name>/runs/", runs.runs, name="runs"),
    path("servers/<name:name>/runs/compare", compare.compare, name="compare-runs"),
    path("servers/<name:name>/runs/<int:number>/", runs.run, name="run"),
    path("servers/<name:name>/runs/<int:number>/report", runs.report, name="report"),
    path("servers/<name:name>/runs/<int:number>/mark", crashes.mark, name="mark-crash"),
    path("servers/<name:name>/availability", availability, name="availability"),
    path("servers/<name:name>/requests/", requests.requests, name="server-requests"),
    path("servers/<name:name>/requests/in-flight", requests.in_flight, name="server-in-flight"),
    path("servers/<name:name>/requests", requests.moved),
    path("servers/<name:name>/quarantine/<int:number>/release", requests.release, name="release"),
    path("overview/figures", overview.figures, name="overview-figures"),
    path("palette", palette.palette, name="palette"),
    path("styleguide/", styleguide.styleguide, name="styleguide"),
    path("requests/", requests.requests, name="requests"),
    path("requests/in-flight", requests.in_flight, name="in-flight"),
    path("requests/cancel", requests.cancel, name="cancel"),
    path("requests/usage/", usage.usage, name="usage"),
    path("requests/usage.csv", usage.usage_csv, name="usage-csv"),
    path("requests/<int:number>/", requests.record, name="request"),
    path("audit/", audit.audit, name="audit"),
    path("audit.csv", audit.audit_csv, name="audit-csv"),
    path("maintenance/", maintenance.maintenance, name="maintenance"),
    path("maintenance/begin", maintenance.begin_maintenance, name="begin-maintenance"),
    path("maintenance/end", maintenance.end_maintenance, name="end-maintenance"),
    path("keys/", keys.keys, name="keys"),
    path("keys/add/", keys.add_key, name="add-key"),
    path("keys/add/create", keys.create_key, name="create-key"),
    path("keys/<int:number>/", keys.key, name="key"),
    path("keys/<int:number>/change", keys.change_key, name="change-key"),
    path("keys/<int:number>/rotate", keys.rotate_key, name="rotate-key"),
    path("keys/<int:number>/switch", keys.switch_key, name="switch-key"),
    path("keys/<int:number>/delete", keys.remove_key, name="delete-key"),
    path("alerts/", alerts.alerts, name="alerts"),
    path("models/", modelfiles.models, name="models"),
    path("models/repository", downloads.repository, name="repository"),
    path("models/download", downloads.download, name="download"),
    path("models/downloads", downloads.downloads, name="downloads"),
    path("models/downloads/<int:number>/<slug:wish>", downloads.change, name="change-download"),
    path("models/<int:number>/delete", modelfiles.delete_model, name="delete-model"),
    path("playground/", playground.playground, name="playground"),
    path("playground/key", playground.make_key, name="playground-key"),
    path("playground/phases", playground.phases, name="playground-phases"),
    path("devices", devices.devices, name="devices"),
    path("login/<str:token>/", logins.login_link, name="login-link"),
    path("password/", logins.set_password, name="set-password"),
    path("api/servers/", api_servers.servers, name="api-servers"),
    path("api/servers/<name:name>/", api_servers.server, name="api-server"),
    path("api/servers/<name:name>/<wish:wish>", api_servers.control, name="api-control"),
    path("api/servers/<name:name>/rollback", api_servers.rollback, name="api-rollback"),
    path("api/servers/<name:name>/availability", api_availability.availability, name="api-availability"),
    path("api/servers/<name:name>/samples", api_samples.samples, name="api-samples"),
    path("api/servers/<name:name>/footprint", api_servers.footprint, name="api-footprint"),
    path("api/servers/<name:name>/log", api_servers.log, name="api-log"),
    path("api/servers/<name:name>/log/lines", api_logs.lines, name="api-log-lines"),
    path("api/servers/<name:name>/runs/", api_runs.runs, name="api-runs"),
    path("api/servers/<name:name>/runs/<int:number>/", api_runs.run, name="api-run"),
    path("api/servers/<name:name>/runs/<int:number>/report", api_runs.report, name="api-report"),
    path(
        "api/servers/<name:name>/maintenance/<slug:switch>",
        api_maintenance.switch_of_server,
        name="api-server-maintenance",
    ),
    path("api/maintenance/", api_maintenance.maintenance, name="api-maintenance"),
    path("api/maintenance/<slug:switch>", api_maintenance.switch_of_all, name="api-all-maintenance"),
    path("api/nodes/", api_nodes.nodes, name="api-nodes"),
    path("livez", probes.livez, name="livez"),
    path("readyz", probes.readyz, name="readyz"),
    path("metrics", probes.metrics, name="metrics"),
    # Django's admin names no icon, so browsers ask for this one.
    path("favicon.ico", declare(Right.ENTER)(RedirectView.as_view(url=static("supervisor/favicon.svg")))),
]
