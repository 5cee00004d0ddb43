"""The ways in: the login, the link on the console of a fresh installation, the first password."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth import REDIRECT_FIELD_NAME, login, update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LogoutView
from django.db import transaction
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache

from supervisor_app.fleet.audit import note
from supervisor_app.fleet.logins import redeem, say_another_link, unused_link
from supervisor_app.fleet.sign_on_tables import comes_by_sign_on
from supervisor_app.web.rights import ACTS, READS, Right, declare

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@declare(Right.ENTER, (*READS, *ACTS))
@never_cache
def login_page(request: HttpRequest) -> HttpResponse:
    """Show the login page; print another link where nobody can log in."""
    if request.method == "GET":
        say_another_link(request)
    is_sent_here = REDIRECT_FIELD_NAME in request.GET or REDIRECT_FIELD_NAME in request.POST
    more: dict[str, object] = {"sign_on": settings.LLAMAPROXY_SSO}
    return admin.site.login(request, more if is_sent_here else {**more, REDIRECT_FIELD_NAME: reverse("home")})


logout_page = declare(Right.ENTER, ACTS)(LogoutView.as_view())


@declare(Right.ENTER, (*READS, *ACTS))
@never_cache
def login_link(request: HttpRequest, token: str) -> HttpResponse:
    """Log in by a POST alone: a link that some program fetches in advance must not be spent by that."""
    if request.method == "POST":
        user = redeem(token)
        if user is not None:
            login(request, user, backend="django.contrib.auth.backends.ModelBackend")
            return redirect("set-password")
    link = unused_link(token)
    return render(request, "supervisor/login_link.html", {"link": link}, status=200 if link else 410)


@declare(Right.OWN, (*READS, *ACTS))
@never_cache
@login_required
def set_password(request: HttpRequest) -> HttpResponse:
    """Let a user who came by a link choose a password, and all others change theirs."""
    user = request.user
    assert isinstance(user, User)  # noqa: S101  (login_required)
    if comes_by_sign_on(user):
        message = gettext("You log in by single sign-on: your password is changed there.")
        return render(request, "supervisor/refused.html", {"message": message, "back": "home"}, status=409)
    has_one = user.has_usable_password()
    form_class: type[SetPasswordForm[User]] = PasswordChangeForm if has_one else SetPasswordForm
    form = form_class(user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            form.save()
            note("change the password of" if has_one else "set the password of", f"user {user}")
        update_session_auth_hash(request, user)
        messages.success(request, gettext("The password is set."))
        return redirect("home")
    return render(request, "supervisor/set_password.html", {"form": form, "has_one": has_one})
