"""API keys: made, limited, rotated, switched off and deleted. For those who administer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render, resolve_url
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from supervisor_app.fleet.models import LlamaServer
from supervisor_app.pages.door import act, page
from supervisor_app.pages.key_forms import GRACES, KeyForm, NewKeyForm
from supervisor_app.pages.presenters.keys import KeyRow, row_of
from supervisor_app.pages.until import UntilForm
from supervisor_app.traffic.budgets import Sums, sums_of_keys
from supervisor_app.traffic.issuing import RotatedError, configure, delete_key, make, rotate, switch
from supervisor_app.traffic.models import ApiKey
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor_app.web.http import HtmxHttpRequest


@page(Right.ADMINISTER)
def keys(request: HttpRequest) -> HttpResponse:
    """List all keys."""
    return render(request, "supervisor/keys.html", {"rows": _rows(ApiKey.objects.all())})


@page(Right.ADMINISTER)
def add_key(request: HttpRequest) -> HttpResponse:
    """Show the form of a new key."""
    return _form_page(request, NewKeyForm())


@never_cache
@act(Right.ADMINISTER)
def create_key(request: HttpRequest) -> HttpResponse:
    """Make a key, and show its secret once: the answer has it, and nothing else does."""
    form = NewKeyForm(request.POST)
    if not form.is_valid():
        return _form_page(request, form, status=400)
    try:
        secret = make(form.instance, [name for name in form.changed_data if form.cleaned_data[name]])
    except IntegrityError:  # since the form was checked
        form.add_error("name", _("There is such a key by now. Write another name."))
        return _form_page(request, form, status=409)
    return _secret_page(request, form.instance, secret)


@page(Right.ADMINISTER)
def key(request: HttpRequest, number: int) -> HttpResponse:
    """Show a key, with its form."""
    row = get_object_or_404(ApiKey, pk=number)
    return _key_page(request, row, KeyForm(instance=row))


@act(Right.ADMINISTER)
def change_key(request: HttpRequest, number: int) -> HttpResponse:
    """Change what a key may."""
    row = get_object_or_404(ApiKey, pk=number)
    form = KeyForm(request.POST, instance=row)
    if not form.is_valid():
        return _key_page(request, ApiKey.objects.get(pk=number), form, status=400)
    configure(row, form.initial, form.changed_data)
    messages.success(request, _("%(name)s is changed.") % {"name": row.name})
    return redirect("key", number=number)


@never_cache
@act(Right.ADMINISTER)
def rotate_key(request: HtmxHttpRequest, number: int) -> HttpResponse:
    """Give a key a new secret, and show it once. A form that is sent again rotates nothing: see `begins`."""
    row = get_object_or_404(ApiKey, pk=number)
    form = UntilForm(request.POST, spans=GRACES)
    if not form.is_valid():
        status = 200 if request.htmx else 400  # htmx shows no answer that is an error
        return _key_page(request, row, KeyForm(instance=row), rotation=form, status=status)
    try:
        if request.POST.get("begins") != row.prefix:
            raise RotatedError
        secret = rotate(row, form.cleaned_data["ends_at"])
    except RotatedError:
        messages.warning(request, _("%(name)s has another secret since: look first.") % {"name": row.name})
        return _done(request, "key", number)
    return _secret_page(request, row, secret)


@act(Right.ADMINISTER)
def switch_key(request: HtmxHttpRequest, number: int) -> HttpResponse:
    """Switch a key off, or on again (`on=1`)."""
    row, on = get_object_or_404(ApiKey, pk=number), request.POST.get("on") == "1"
    switch(ApiKey.objects.filter(pk=number), on=on)
    said = _("%(name)s is switched on.") if on else _("%(name)s is switched off: nobody gets in with it.")
    messages.success(request, said % {"name": row.name})
    return _done(request, "key", number)


@act(Right.ADMINISTER)
def remove_key(request: HtmxHttpRequest, number: int) -> HttpResponse:
    """Delete a key."""
    row = get_object_or_404(ApiKey, pk=number)
    delete_key(row)
    messages.success(request, _("%(name)s is deleted.") % {"name": row.name})
    return _done(request, "keys")


def _rows(found: Iterable[ApiKey]) -> list[KeyRow]:
    keys, now = list(found), timezone.now()
    sums = sums_of_keys([each.name for each in keys], now)
    return [row_of(each, sums.get(each.name, Sums()), now) for each in keys]


def _known_names() -> list[str]:
    """List the names that a key may be limited to, as far as configurations tell them."""
    servers = LlamaServer.objects.values_list("name", "aliases")
    return sorted({name for server, aliases in servers for name in (server, *aliases)})


def _form_page(request: HttpRequest, form: NewKeyForm, status: int = 200) -> HttpResponse:
    context = {"form": form, "known": _known_names(), "is_first": not ApiKey.objects.exists()}
    return render(request, "supervisor/key_add.html", context, status=status)


def _key_page(
    request: HttpRequest, key: ApiKey, form: KeyForm, *, rotation: UntilForm | None = None, status: int = 200
) -> HttpResponse:
    context: dict[str, Any] = {
        "row": _rows([key])[0],
        "form": form,
        "known": _known_names(),
        "rotation": rotation or UntilForm(spans=GRACES),
        "is_last": ApiKey.objects.count() == 1,
    }
    return render(request, "supervisor/key.html", context, status=status)


def _secret_page(request: HttpRequest, key: ApiKey, secret: str) -> HttpResponse:
    return render(request, "supervisor/key_made.html", {"key": key, "secret": secret})


def _done(request: HtmxHttpRequest, page: str, *args: int) -> HttpResponse:
    if request.htmx:
        return HttpResponse(status=204, headers={"HX-Redirect": resolve_url(page, *args)})
    return redirect(page, *args)
