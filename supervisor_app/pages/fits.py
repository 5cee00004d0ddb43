"""Verdict on memory: does a server as it is configured fit its node?"""

from __future__ import annotations

import os
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from supervisor_app.core.memory_rules import MemoryRules
from supervisor_app.fleet.conf import resolve
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.devices import known_devices
from supervisor_app.fleet.models import this_node
from supervisor_app.fleet.need_report import report_launch
from supervisor_app.library.model import ModelError
from supervisor_app.modelfiles.fitting import Fit, fit_of

if TYPE_CHECKING:
    from supervisor_app.fleet.models import LlamaServer


def fit_of_server(server: LlamaServer) -> Fit:
    """Look at the model of a server of this node; an empty sentence: nobody can say from here. Blocking."""
    overlay = last_good()
    spec = resolve(copy(server), overlay, command=(), cwd=os.getcwd()).spec
    if server.node != this_node() or spec.model_path is None:
        return Fit()
    if not Path(spec.cwd, spec.model_path).is_file():  # a pipe would be waited for
        return Fit(sentence=_("There is no file %(path)s here.") % {"path": spec.model_path})
    devices = next((each.devices for each in known_devices() if each.node == server.node), ())
    try:
        report = report_launch(spec, devices)
    except ModelError as error:
        return Fit(sentence=str(error))
    need = report.launch.need(report.known)
    fit = fit_of(server.name, need, devices, overlay.memory or MemoryRules())
    unsure = Fit(sentence=_("Needs %(amount)s.") % {"amount": report.known.sentence})
    return fit if fit.sentence else unsure
