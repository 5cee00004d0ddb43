"""A request that asks for a preset: its body and the name of the model in its answer, changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from supervisor_app.gateway import problems
from supervisor_app.gateway.llama.presets import PresetError, rewrite
from supervisor_app.gateway.llama.renaming import Renaming

if TYPE_CHECKING:
    from supervisor_app.gateway.http.request_heads import RequestHead
    from supervisor_app.gateway.plane.answer import Answer
    from supervisor_app.gateway.plane.body import RequestBody
    from supervisor_app.gateway.plane.transit import Transit
    from supervisor_app.gateway.problem import Problem
    from supervisor_app.gateway.servers.backend import Backend

NO_FORM = "changes JSON, and this request is a form. Send JSON"
TOO_LONG = "changes bodies that are kept in memory, and this one is too long for that. Send less"


class Changed(Protocol):
    """A request whose body has come, and has not been sent."""

    transit: Transit

    @property
    def head(self) -> RequestHead: ...

    @property
    def body(self) -> RequestBody: ...

    @property
    def answer(self) -> Answer: ...


def change_by_preset(request: Changed, name: str, backend: Backend) -> Problem | None:
    """Change a request as the preset of this name says. A problem: the preset cannot change it."""
    form, preset = request.head.operation.presets, backend.facts.presets.get(name)
    if form is None or preset is None:
        return None
    try:
        if request.body.is_form and form.is_changed:
            raise PresetError(NO_FORM)
        if request.body.overflows:
            raise PresetError(TOO_LONG)
        request.transit.change(rewrite(preset, form, request.body.kept()))
    except PresetError as error:
        return problems.preset_impossible(name, backend.facts.name, str(error))
    request.answer.renaming = Renaming(name, lambda: (backend.facts.name, *backend.facts.models))
    return None
