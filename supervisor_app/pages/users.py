"""Users: who has which role, added, switched off, and let in by a link that works once. For admins."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render, resolve_url
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache

from supervisor_app.fleet.accounts import AccountError, add_user, ask_new_password, give_role, switch_user
from supervisor_app.fleet.logins import VALID_FOR, link_of
from supervisor_app.pages.door import act, page
from supervisor_app.pages.presenters.users import ROLES, row_of
from supervisor_app.web.rights import Right, Role

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    from supervisor_app.web.http import HtmxHttpRequest


class RoleForm(forms.Form):
    role = forms.ChoiceField(label=gettext_lazy("Role"), choices=ROLES, initial=Role.VIEWER)


class NewUserForm(RoleForm):
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=150,
        help_text=gettext_lazy("The name to log in with: letters, digits and @ . + - _"),
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"}),
    )
    field_order = ("name", "role")


@page(Right.ADMINISTER)
def users(request: HttpRequest) -> HttpResponse:
    """List all accounts."""
    return _list_page(request, NewUserForm())


@never_cache
@act(Right.ADMINISTER)
def create_user(request: HttpRequest) -> HttpResponse:
    """Add an account, and show its login link once."""
    form = NewUserForm(request.POST)
    if form.is_valid():
        try:
            user, token = add_user(form.cleaned_data["name"], Role(form.cleaned_data["role"]))
        except AccountError as error:
            form.add_error("name", str(error))
        else:
            return _link_page(request, user, token)
    return _list_page(request, form, status=400)


@page(Right.ADMINISTER)
def user(request: HttpRequest, number: int) -> HttpResponse:
    """Show an account, with what can be done with it."""
    row = row_of(get_object_or_404(_accounts(), pk=number))
    context = {
        "row": row,
        "form": RoleForm(initial={"role": row.role}),
        "is_own": row.user.pk == request.user.pk,
    }
    return render(request, "supervisor/user.html", context)


@act(Right.ADMINISTER)
def change_role(request: HttpRequest, number: int) -> HttpResponse:
    person, form = get_object_or_404(User, pk=number), RoleForm(request.POST)
    if not form.is_valid():
        return _refused(request, str(form.errors["role"].as_text().removeprefix("* ")))
    try:
        give_role(person, Role(form.cleaned_data["role"]), cast("User", request.user))
    except AccountError as error:
        return _refused(request, str(error))
    said = _("%(name)s is %(role)s now.") % {"name": person, "role": form.cleaned_data["role"]}
    messages.success(request, said)
    return redirect("users")


@act(Right.ADMINISTER)
def switch(request: HtmxHttpRequest, number: int) -> HttpResponse:
    """Switch an account off, or on again (`on=1`)."""
    person, on = get_object_or_404(User, pk=number), request.POST.get("on") == "1"
    try:
        switch_user(person, cast("User", request.user), on=on)
    except AccountError as error:
        return _refused(request, str(error))
    said = _("%(name)s may log in again.") if on else _("%(name)s is logged out and cannot log in any more.")
    messages.success(request, said % {"name": person})
    if request.htmx:
        return HttpResponse(status=204, headers={"HX-Redirect": resolve_url("users")})
    return redirect("users")


@never_cache
@act(Right.ADMINISTER)
def new_link(request: HttpRequest, number: int) -> HttpResponse:
    """Take the password of an account away, and show a link to choose another, once."""
    person = get_object_or_404(User, pk=number)
    try:
        token = ask_new_password(person, cast("User", request.user))
    except AccountError as error:
        return _refused(request, str(error))
    return _link_page(request, person, token)


def _accounts() -> QuerySet[User]:
    """Return all accounts, with what a row tells of them."""
    return User.objects.select_related("sign_on_account").prefetch_related("groups")


def _list_page(request: HttpRequest, form: NewUserForm, status: int = 200) -> HttpResponse:
    people = _accounts().order_by("username")
    context = {"rows": [row_of(person) for person in people], "form": form}
    return render(request, "supervisor/users.html", context, status=status)


def _link_page(request: HttpRequest, person: User, token: str) -> HttpResponse:
    link = request.build_absolute_uri(link_of(token))
    hours = int(VALID_FOR.total_seconds() // 3600)
    return render(request, "supervisor/user_link.html", {"person": person, "link": link, "hours": hours})


def _refused(request: HttpRequest, message: str) -> HttpResponse:
    status = 200 if getattr(request, "htmx", False) else 409  # htmx shows no answer that is an error
    return render(request, "supervisor/refused.html", {"message": message, "back": "users"}, status=status)
