"""Form of a server: the admin and the page of its configuration check what people type in the same way."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError

from supervisor_app.common.admin import NamesField
from supervisor_app.core.settings import BY_FIELD
from supervisor_app.engine.known_flags import unknown_flags
from supervisor_app.fleet.conf import DEFAULT_SERVER, apply_overlay, is_here
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.engines import DEFAULT
from supervisor_app.fleet.models import LlamaServer, new_key
from supervisor_app.fleet.presets import clashes, names_of
from supervisor_app.fleet.validators import validate_args, validate_args_of_form, validate_presets

if TYPE_CHECKING:
    ServerModelForm = forms.ModelForm[LlamaServer]
else:  # Django's own classes cannot be subscripted
    ServerModelForm = forms.ModelForm


SIGNS = ("-", "*")
"""Signs in the field of the key: none, and a random one."""


class ArgsField(forms.CharField):
    """A list of flags, edited as one would type them."""

    known: frozenset[str] = frozenset()
    """Flags of the engine; none: nobody can say. With any other it would not start."""

    def prepare_value(self, value: Any) -> Any:
        return shlex.join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        try:
            args = shlex.split(super().clean(value) or "")
        except ValueError as error:
            raise ValidationError(f"The flags cannot be read: {error}. Close every quote.") from error
        validate_args(args)
        if self.known and (mistakes := unknown_flags(args, self.known)):
            raise ValidationError(mistakes)
        validate_args_of_form(args)
        return args

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(super().has_changed(self.prepare_value(initial), data))


class ApiKeyInput(forms.PasswordInput):
    """An input that repeats the signs, and no key: a page with a secret can be kept, printed or shown."""

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        if value in SIGNS:
            context["widget"]["value"] = value
        return context


class ApiKeyField(forms.CharField):
    """A key that is never shown: an empty field leaves the stored one as it is."""

    widget = ApiKeyInput(attrs={"autocomplete": "new-password"})

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(data)


class PresetsField(forms.JSONField):
    """Presets by name, edited as JSON."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.Textarea(attrs={"rows": 8, "cols": 80})
        super().__init__(required=False, widget=widget, validators=[validate_presets], **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return value if isinstance(value, str) else json.dumps(value or {}, indent=2, ensure_ascii=False)

    def to_python(self, value: Any) -> Any:
        try:
            return json.loads(value or "{}")
        except ValueError as error:
            example = '{"brief": {"set": {"temperature": 0.2}}}'
            raise ValidationError(f"This is no JSON: {error}. Write something like {example}.") from error

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(json.loads(data or "{}") != (initial or {}))
        except ValueError:
            return True


class EngineField(forms.ChoiceField):
    """Choice among the engines that the file of this host names; the one that is configured may stay."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, help_text=BY_FIELD["engine"].form_help, **kwargs)
        self.names: list[str] = []

    def offer(self, current: str) -> None:
        described = sorted(last_good().engines)
        lost = [current] if current not in ("", *described) else []
        self.names = [*described, *lost]
        labels = [*described, *(f"{name} (described no more)" for name in lost)]
        self.choices = [("", DEFAULT), *zip(self.names, labels, strict=True)]


class LlamaServerForm(ServerModelForm):
    engine = EngineField()
    aliases = NamesField(help_text=f"{BY_FIELD['aliases'].summary} One a line.")
    presets = PresetsField(
        help_text=f"{BY_FIELD['presets'].summary} As JSON: by name set, default, cap, remove and "
        "system_prefix. A change counts for the next request; nothing restarts."
    )
    args = ArgsField(
        required=False,
        label="More flags",
        help_text=f"{BY_FIELD['args'].summary} As on a command line: -c 8192 -ngl 99. Flags that reach for "
        "files, programs or the network are set in the config file only.",
        widget=forms.TextInput(attrs={"size": 80}),
    )
    api_key = ApiKeyField(
        required=False,
        label="API key",
        help_text=f"{BY_FIELD['api_key'].summary} Handed over in the environment, never on the command line. "
        "Without one it gets a random key, which the gateway knows and its page shows to admins. "
        "What is stored is not shown; leave empty to keep it, type - for none (open to every program that "
        "reaches it), * for a new random one.",
    )

    class Meta:
        model = LlamaServer
        fields = "__all__"
        error_messages: ClassVar = {
            "name": {
                "unique": "A server with this name already exists.",
                "invalid": "Use letters, digits, - and _.",
            }
        }
        help_texts = {setting.field: setting.form_help for setting in BY_FIELD.values()}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        engine = self.fields.get("engine")
        node = self.data.get("node") or self.instance.node
        if isinstance(engine, EngineField):
            if is_here(node):
                engine.offer(self.instance.engine)
            else:  # its own file describes its engines
                self.fields["engine"] = forms.CharField(
                    required=False, max_length=BY_FIELD["engine"].longest, help_text=engine.help_text
                )

    def clean(self) -> dict[str, Any]:
        """Refuse the port that the config file gives to `default`, which no constraint can see."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        described = {**vars(self.instance), **cleaned}
        taken = last_good().values.get("port")
        if taken is not None and cleaned.get("port") == taken and described["name"] != DEFAULT_SERVER:
            default = LlamaServer.objects.filter(name=DEFAULT_SERVER, node=described["node"])
            if default.exists():
                self.add_error("port", f"The config file gives {taken} to the server {DEFAULT_SERVER}.")
        self._check_presets(cleaned)
        return cleaned

    def _check_presets(self, cleaned: dict[str, Any]) -> None:
        """Refuse names that would lead to two things."""
        described = {**vars(self.instance), **cleaned}
        mine = names_of(described["name"], described)
        others = list(LlamaServer.objects.exclude(pk=self.instance.pk))
        for other in others:
            apply_overlay(other, last_good())
        for name, what in clashes(mine, [names_of(other.name, vars(other)) for other in others]):
            field = mine.field_of(name)
            self.add_error(field if field in self.fields else None, what)

    def clean_api_key(self) -> str | None:
        typed: str = self.cleaned_data["api_key"]
        if typed == "*":
            self.instance.own_key = new_key()
        return {"": self.instance.api_key, "-": "", "*": None}.get(typed, typed)
