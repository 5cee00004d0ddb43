"""Form of an alert channel, for pages and the admin: an address goes in and never comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.html import format_html, format_html_join

from supervisor_app.alerts.models import AlertChannel

if TYPE_CHECKING:
    from django.utils.safestring import SafeString

    ChannelModelForm = forms.ModelForm[AlertChannel]
else:  # Django's own class cannot be subscripted
    ChannelModelForm = forms.ModelForm

EXAMPLES = (
    ("Webhook", "https://example.org/hook", "POST with our JSON, as docs/alerts.md describes it"),
    ("Slack", "https://hooks.slack.com/services/T…/B…/…", "the incoming webhook's address as Slack shows it"),
    ("Discord", "https://discord.com/api/webhooks/…/…", "as Discord shows it"),
    ("ntfy", "https://ntfy.sh/my-topic", "or ntfys://user:password@ntfy.example.org/my-topic for your own"),
    ("E-mail", "mailtos://user:password@smtp.example.org:587?from=llama@example.org&to=me@example.org", ""),
)


def _examples(*, is_stored: bool) -> SafeString:
    lines = format_html_join(
        "",
        "<br>{}: <code>{}</code>{}",
        ((name, url, f" ({note})" if note else "") for name, url, note in EXAMPLES),
    )
    return format_html(
        "Where to send. What is stored is not shown again, because it often holds a password or token{}{}<br>"
        'Or any other of <a href="https://github.com/caronc/apprise#supported-notifications">Apprise’s '
        "addresses</a>.",
        "; leave empty to keep it." if is_stored else ".",
        lines,
    )


class AddressField(forms.CharField):
    """Field of an address that is never shown, so an empty field says nothing about what is stored."""

    widget = forms.PasswordInput(attrs={"autocomplete": "off", "size": 80})

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(data)


class AlertChannelForm(ChannelModelForm):
    url = AddressField(label="Address", max_length=1000, required=False)

    class Meta:
        model = AlertChannel
        fields = "__all__"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["url"].help_text = _examples(is_stored=self.instance.pk is not None)

    def clean_url(self) -> str:
        typed: str = self.cleaned_data["url"]
        if not typed and not self.instance.url:
            raise forms.ValidationError("Where should it send?")
        return typed or self.instance.url
