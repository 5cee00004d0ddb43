"""The banner of a configuration: what became of the newest change, and whether somebody else has made one."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from django.shortcuts import render

from supervisor_app.fleet.conf import apply_overlay, fixed_fields, launch_of, secrets_of_launch
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.models import LlamaServer, Run
from supervisor_app.fleet.snapshots import view_of
from supervisor_app.fleet.version_tables import ConfigVersion
from supervisor_app.fleet.versions import way_back
from supervisor_app.pages.door import page
from supervisor_app.pages.presenters.config_course import Step, course_of
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from django.http import HttpResponse

    from supervisor_app.web.http import HtmxHttpRequest


@page(Right.ADMINISTER)
def config_course(request: HtmxHttpRequest, name: str) -> HttpResponse:
    """Show the banner anew: the page asks for it after each push about its server, which may be gone."""
    server = LlamaServer.objects.select_related("state").filter(name=name).first()
    based_on = request.GET.get("version", "")
    shown = course(server, based_on) if server else {"version": based_on, "is_gone": True}
    return render(request, "supervisor/_config_course.html", {"name": name, **shown})


def course(server: LlamaServer, based_on: str) -> dict[str, Any]:
    """Return what `supervisor/_config_course.html` shows. `based_on`: the version that a form began with."""
    newest = ConfigVersion.objects.filter(server=server).first()
    if newest is None:
        return {"version": based_on}
    status = view_of(server).status
    found = course_of(
        status,
        is_to_run=server.desired_running,
        runs_it=_runs_it(server),
        changed_at=newest.at.timestamp(),
    )
    is_back = found is not None and found.step is Step.FAILED
    return {
        "version": based_on,
        "newest": newest,
        "is_outdated": based_on != str(newest.number),
        "course": found,
        "back": way_back(server, fixed_fields(server, last_good())) if is_back else None,
    }


def _runs_it(server: LlamaServer) -> bool:
    """Was the newest process launched with the configuration that holds now?"""
    run = Run.objects.filter(server=server).first()
    if run is None:
        return False
    server = copy(server)
    apply_overlay(server, last_good())
    now = launch_of(server)
    has_other_secrets = run.secrets not in ("", secrets_of_launch(server))
    return not has_other_secrets and all(now.get(field) == value for field, value in run.launch.items())
