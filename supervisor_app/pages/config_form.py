"""Forms of a server on its page of configuration, and on that which adds one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from supervisor_app.common.redact import redact_argv
from supervisor_app.core.command_line.fetching import names_repository
from supervisor_app.core.command_line.plain import PLAIN, read_plain, write_plain
from supervisor_app.core.settings import BY_FIELD
from supervisor_app.fleet.conf import ConfigError
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.file_servers import choose_port
from supervisor_app.fleet.fleet_file import PORTS
from supervisor_app.fleet.lease import live_leases
from supervisor_app.fleet.models import LlamaServer, default_of, this_node
from supervisor_app.fleet.server_form import SIGNS, ArgsField, EngineField, LlamaServerForm
from supervisor_app.fleet.versions import configured
from supervisor_app.pages.presenters.config import LABELS, PLAIN_FIELDS

if TYPE_CHECKING:
    from supervisor_app.engine.known_flags import KnownFlags

_CONFLICT = _lazy("%(said)s is among the flags below, %(typed)s in this field. Leave one of them.")
MODELS = "models-on-disk"
"""Id of the list that the field of the model offers."""
LAYERS = next(flag.value.pattern for flag in PLAIN if flag.field == "gpu_layers")
OF_ITS_OWN = ("port", "api_key", "presets")
"""Settings that no two servers share: a name of a preset leads to one thing."""


class ConfigForm(LlamaServerForm):
    """Form of the settings that people may change; those of a file are not in it.

    Three fields stand for flags; the column holds the arguments alone.
    """

    context = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=10**9 - 1,
        label=_lazy("Context, in tokens"),
        help_text=_lazy(
            "Of all requests together that it works on. Flag -c. Empty or 0: as the model was trained; "
            "empty: less if memory is short."
        ),
    )
    slots = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=9999,
        label=_lazy("Requests at a time"),
        help_text=_lazy(
            "Slots, each with its part of the context. Flag -np. Empty: four, any of which may use all of it."
        ),
    )
    gpu_layers = forms.RegexField(
        rf"^(?:{LAYERS})\Z",
        required=False,
        label=_lazy("Layers on the GPU"),
        help_text=_lazy("A number, auto or all. Flag -ngl. Empty: as many as fit."),
        error_messages={"invalid": _lazy("Write a number, auto or all.")},
    )

    class Meta(LlamaServerForm.Meta):
        fields = list(BY_FIELD)  # type: ignore[assignment]  # the stubs derive it from "__all__"

    def __init__(self, *args: Any, fixed: set[str], known: KnownFlags | None = None, **kwargs: Any) -> None:
        """`known`: flags of the engine; None: nobody has asked."""
        super().__init__(*args, **kwargs)
        self.unchecked = known.problem if known else ""
        """Reason, as a sentence, for which flags are not compared with those of the engine."""
        flags = self.fields.get("args")
        if isinstance(flags, ArgsField) and known is not None:
            flags.known = known.flags
        if "args" in fixed:
            fixed = {*fixed, *PLAIN_FIELDS}
        for field in fixed & self.fields.keys():
            del self.fields[field]
        if flags is not None:
            flags.help_text = _(
                "As on a command line: --jinja -fa on. Those that reach for files, programs or the network "
                "are set in the config file only."
            )
        plain, rest = read_plain(self.initial.get("args") or ())
        numbers = {
            name: self.fields[name].to_python(said) for name, said in plain.items() if name in self.fields
        }
        self.initial.update(numbers, args=rest)
        for field, label in LABELS.items():
            if field in self.fields:
                self.fields[field].label = str(label)
        self.initial.pop("api_key", None)
        if "model_path" in self.fields:
            self.fields["model_path"].widget.attrs["list"] = MODELS

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if "args" in cleaned:
            cleaned["args"] = self._arguments(cleaned)
        others = LlamaServer.objects.on_node(cleaned.get("node") or self.instance.node).exclude(
            pk=self.instance.pk
        )
        taken = next((other for other in others if other.port == cleaned.get("port")), None)
        if taken is not None:
            self.add_error("port", f"{taken.port} is the port of {taken.name}. Write another.")
        return cleaned

    def _arguments(self, cleaned: dict[str, Any]) -> list[str]:
        """Return the arguments that fields and flags say together."""
        fields, rest = read_plain(cleaned["args"])
        for flag in PLAIN:
            typed = "" if cleaned.get(flag.field) is None else str(cleaned[flag.field])
            said = fields.setdefault(flag.field, typed)
            if typed and said != typed:
                self.add_error(
                    flag.field, str(_CONFLICT) % {"said": f"{flag.names[0]} {said}", "typed": typed}
                )
        return write_plain(fields, rest, self.instance.args)

    @property
    def has_engines(self) -> bool:
        """Is there a choice of engines?"""
        engine = self.fields["engine"]
        return not isinstance(engine, EngineField) or bool(engine.names)

    @property
    def is_key_lost(self) -> bool:
        """Was a key typed that no page repeats? It has to be typed again."""
        return "api_key" in self.fields and bool(typed := self["api_key"].data) and typed not in SIGNS


class AddForm(ConfigForm):
    """Form of a server that is to be. A port that is left out is chosen."""

    class Meta(ConfigForm.Meta):
        fields = ["name", "node", *BY_FIELD]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, fixed=set(), **kwargs)
        port = self.fields["port"]
        port.required, self.initial["port"] = False, None
        port.help_text = _("%(help)s Left out, a free one is chosen.") % {"help": port.help_text}
        nodes = sorted({this_node(), *live_leases().values_list("node", flat=True)})
        if len(nodes) == 1:
            del self.fields["node"]
        else:
            choices, help_text = [(node, node) for node in nodes], self.fields["node"].help_text
            self.fields["node"] = forms.ChoiceField(choices=choices, initial=this_node(), help_text=help_text)

    def clean_port(self) -> int:
        port: int | None = self.cleaned_data["port"]
        if port is not None:
            return port
        node = self.cleaned_data.get("node") or this_node()
        try:
            return choose_port(node, last_good().ports or PORTS, set())
        except ConfigError as error:
            raise ValidationError(str(error)) from error

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if not cleaned.get("model_path") and names_repository(cleaned.get("args") or []):
            cleaned["model_path"] = default_of("model_path")  # not looked at: the flags say where it is from
        return cleaned


def initial_of(other: LlamaServer | None) -> dict[str, Any]:
    """Return what the form of a new server begins with; as another, without what is that one's alone."""
    if other is None:
        return {"model_path": ""}
    values = {field: value for field, value in configured(other).items() if field not in OF_ITS_OWN}
    return {**values, "node": other.node, "args": without_secrets(other.args)}


def without_secrets(args: list[str]) -> list[str]:
    """Return flags without those that hold a secret."""
    kept: list[str] = []
    for word, shown in zip(args, redact_argv(args), strict=True):
        if word == shown:
            kept.append(word)
        elif not word.startswith("-") and kept and kept[-1].startswith("-"):
            kept.pop()  # the flag of this value
    return kept
