"""Each setting in the config file and in the admin's form: the same bounds, the same defaults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from supervisor_app.core.setting import LARGEST, Kind, Section
from supervisor_app.core.settings import BY_FIELD, SETTINGS
from supervisor_app.fleet.admin import LlamaServerAdmin
from supervisor_app.fleet.conf import ENGINE_KEY, ConfigError
from supervisor_app.fleet.config_file import parse_overlay
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.server_form import LlamaServerForm

pytestmark = pytest.mark.django_db

NUMBERS = [setting for setting in SETTINGS if setting.kind is Kind.NUMBER]
SWITCHES = [setting for setting in SETTINGS if setting.kind is Kind.SWITCH]
TEXTS = [each for each in BY_FIELD.values() if each.longest is not None and each.key != ENGINE_KEY]
"""Not the engine: forms offer names that are described, and a file of one server has none."""
WITH_IT = {"retry_backoff_ms": {"max_backoff_ms": LARGEST}, "max_backoff_ms": {"retry_backoff_ms": 1}}
"""The first wait is not longer than the longest."""


def accepted_by_file(setting, value):
    said = {**WITH_IT.get(setting.key, {}), setting.key: value}
    try:
        overlay = parse_overlay(Path("config.json"), json.dumps(said))
    except ConfigError:
        return False
    return overlay.values[setting.field] == value


def accepted_by_form(setting, value):
    defaults = {name: each.default or "" for name, each in BY_FIELD.items() if each.kind is not Kind.NUMBER}
    numbers = {each.field: each.default for each in NUMBERS}
    said = {**defaults, **numbers, "name": "default", "node": "local", **WITH_IT.get(setting.key, {})}
    form = LlamaServerForm({**said, setting.field: value})
    if form.errors:
        assert form.errors.keys() <= {setting.field, "__all__"}
        return False
    return getattr(form.save(), setting.field) == value


@pytest.mark.parametrize("accepted", [accepted_by_file, accepted_by_form])
@pytest.mark.parametrize("setting", NUMBERS, ids=lambda setting: setting.key)
@pytest.mark.parametrize(
    ("bound", "beyond", "fits"),
    [("least", 0, True), ("least", -1, False), ("most", 0, True), ("most", 1, False)],
    ids=["least", "less", "most", "more"],
)
def test_a_number_is_accepted_within_its_bounds_and_refused_beyond(setting, accepted, bound, beyond, fits):
    assert accepted(setting, getattr(setting, bound) + beyond) is fits


@pytest.mark.parametrize("accepted", [accepted_by_file, accepted_by_form])
@pytest.mark.parametrize("setting", TEXTS, ids=lambda setting: setting.key)
@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)], ids=["longest", "longer"])
def test_a_text_is_accepted_up_to_its_length(setting, accepted, more, fits):
    assert accepted(setting, "x" * (setting.longest + more)) is fits


@pytest.mark.parametrize("accepted", [accepted_by_file, accepted_by_form])
@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("setting", SWITCHES, ids=lambda setting: setting.key)
def test_a_switch_is_on_or_off(setting, accepted, value):
    assert accepted(setting, value)


@pytest.mark.parametrize("setting", BY_FIELD.values(), ids=lambda setting: setting.key)
def test_a_new_server_has_the_declared_default(setting):
    default = [] if setting.kind is Kind.LIST else setting.default
    assert getattr(LlamaServer(), setting.field) == default


@pytest.mark.parametrize("setting", BY_FIELD.values(), ids=lambda setting: setting.key)
def test_the_form_explains_each_setting(setting):
    assert setting.summary.replace("`", "") in LlamaServerForm().fields[setting.field].help_text


def test_the_form_has_each_setting_once_and_none_of_the_node():
    edited = [name for _, section in LlamaServerAdmin.fieldsets for name in section["fields"]]
    assert len(edited) == len(set(edited))
    assert set(edited) == {"name", "node", "overridden", *BY_FIELD}
    assert not {setting.key for setting in SETTINGS if setting.section is Section.NODE} & set(edited)
