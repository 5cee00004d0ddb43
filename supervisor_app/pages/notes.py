"""Notes on incidents, written and taken away on a server's page of availability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render, resolve_url
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from supervisor_app.alerts.models import LONGEST_NOTE, Incident, IncidentNote
from supervisor_app.alerts.notes import PAST, note_of, remove_note, told_incidents, write_note
from supervisor_app.fleet.maintenance import plan_of, plans
from supervisor_app.fleet.status_page import chosen_servers
from supervisor_app.pages.door import act
from supervisor_app.pages.presenters.status import Past, past_of
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from supervisor_app.web.http import HtmxHttpRequest


class TextField(forms.CharField):
    """A text whose lines end as its browser counts them: in one character."""

    def to_python(self, value: Any) -> Any:
        return str(super().to_python(value)).replace("\r\n", "\n")


class NoteForm(forms.Form):
    """Form of a note."""

    note = TextField(
        label=_("Note"),
        max_length=LONGEST_NOTE,
        widget=forms.Textarea(attrs={"rows": 3}),
        error_messages={"required": _("Write what people should know.")},
    )


@dataclass(frozen=True, kw_only=True)
class NotedIncident:
    """A downtime with its note and the form of it."""

    number: int
    past: Past
    note: IncidentNote | None
    form: NoteForm


@act(Right.OPERATE)
def note_incident(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Write the note of an incident, or another one in its place."""
    incident = _incident(name, number)
    form = NoteForm(request.POST)
    if not form.is_valid():
        message = " ".join(str(error) for error in form.errors["note"])
        return render(request, "supervisor/refused.html", {"message": message, "name": name}, status=400)
    write_note(incident, form.cleaned_data["note"], request.user.get_username())
    return redirect("availability", name=name)


@act(Right.OPERATE)
def unnote(request: HtmxHttpRequest, name: str, number: int) -> HttpResponse:
    """Take the note of an incident away."""
    remove_note(_incident(name, number))
    if request.htmx:
        return HttpResponse(status=204, headers={"HX-Redirect": resolve_url("availability", name=name)})
    return redirect("availability", name=name)


def notes_panel(name: str) -> dict[str, Any]:
    """Return the context of `supervisor/_notes.html`. Three queries."""
    is_planned = plan_of(name, plans()) is not None
    return {
        "noted": [_noted(row, is_planned=is_planned) for row in told_incidents([name], timezone.now())],
        "noted_days": PAST.days,
        "title_for_strangers": chosen_servers().get(name),
    }


def _noted(row: Incident, *, is_planned: bool) -> NotedIncident:
    note = note_of(row)
    form = NoteForm(initial={"note": note.text if note is not None else ""}, auto_id=f"note-{row.pk}-%s")
    past = past_of(row.server.name, row, note, is_planned=is_planned)
    return NotedIncident(number=row.pk, past=past, note=note, form=form)


def _incident(name: str, number: int) -> Incident:
    return get_object_or_404(Incident.objects.select_related("server"), pk=number, server__name=name)
