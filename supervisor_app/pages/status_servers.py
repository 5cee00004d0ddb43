"""The choice of what strangers see on the status page. For those who administer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from supervisor_app.fleet.models import LlamaServer, StatusServer
from supervisor_app.fleet.status_page import VARIABLE, choose, chosen_servers, is_set_by_environment
from supervisor_app.fleet.status_tables import LONGEST_TITLE
from supervisor_app.pages.door import act, page
from supervisor_app.pages.status import forget
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from django.http import HttpRequest, HttpResponse


@dataclass(frozen=True, kw_only=True)
class Row:
    """A server with its box and the field of its title."""

    name: str
    shown: forms.BoundField
    title: forms.BoundField


class ChoiceForm(forms.Form):
    """A box and a title for each server. No two have the same title, since badges go by titles."""

    def __init__(self, servers: Mapping[int, str], titles: Mapping[str, str], *args: Any) -> None:
        """`servers`: names by primary keys; `titles`: of what is chosen now, by names."""
        super().__init__(*args)
        self._servers = servers
        for key, name in servers.items():
            said = {"name": name}
            self.fields[f"shown-{key}"] = forms.BooleanField(
                required=False, initial=name in titles, label=_("Show %(name)s") % said
            )
            self.fields[f"title-{key}"] = forms.CharField(
                required=False,
                initial=titles.get(name, ""),
                max_length=LONGEST_TITLE,
                label=_("Title of %(name)s") % said,
                widget=forms.TextInput(attrs={"placeholder": name, "autocomplete": "off"}),
            )

    @property
    def rows(self) -> Iterator[Row]:
        for key, name in self._servers.items():
            yield Row(name=name, shown=self[f"shown-{key}"], title=self[f"title-{key}"])

    @property
    def titles(self) -> dict[str, str]:
        """Return titles by names of what is ticked; empty for a server that goes by its name."""
        said = self.cleaned_data
        return {
            name: said.get(f"title-{key}", "") for key, name in self._servers.items() if said[f"shown-{key}"]
        }

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        keys = {name: key for key, name in self._servers.items()}
        taken: dict[str, str] = {}
        for name, title in self.titles.items():
            other = taken.setdefault(title or name, name)
            if other != name:
                said = _("%(other)s goes by this title. Write another.") % {"other": other}
                self.add_error(f"title-{keys[name]}", said)
        return cleaned


@page(Right.ADMINISTER)
def status_servers(request: HttpRequest) -> HttpResponse:
    """Show which servers are on the status page, and who says so."""
    return _page(request, ChoiceForm(_servers(), _titles()))


@act(Right.ADMINISTER)
def choose_status_servers(request: HttpRequest) -> HttpResponse:
    """Put the ticked servers on the status page, and no others."""
    if is_set_by_environment():
        said = _("%(name)s is set: change it where the web process is started.") % {"name": VARIABLE}
        return render(
            request, "supervisor/refused.html", {"message": said, "back": "status-servers"}, status=409
        )
    form = ChoiceForm(_servers(), _titles(), request.POST)
    if not form.is_valid():
        return _page(request, form, status=400)
    choose(form.titles)
    forget()
    if form.titles:
        messages.success(request, _("Saved. All readers of the status page see it within 10 s."))
    else:
        messages.success(request, _("Saved. There is no status page now."))
    return redirect("status-servers")


def _servers() -> dict[int, str]:
    return dict(LlamaServer.objects.order_by("name").values_list("pk", "name"))


def _titles() -> dict[str, str]:
    return dict(StatusServer.objects.values_list("server__name", "title"))


def _page(request: HttpRequest, form: ChoiceForm, status: int = 200) -> HttpResponse:
    context = {
        "form": form,
        "chosen": chosen_servers(),
        "variable": VARIABLE if is_set_by_environment() else "",
    }
    return render(request, "supervisor/status_servers.html", context, status=status)
