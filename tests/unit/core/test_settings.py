"""The declarations of the settings, and what is derived from them alone."""

from __future__ import annotations

from dataclasses import fields

import pytest
from django.db import models

from supervisor_app.core.memory_rules import MEMORY_SETTINGS
from supervisor_app.core.setting import Kind, Section, Setting
from supervisor_app.core.settings import BY_FIELD, SETTINGS, settings_of
from supervisor_app.core.spec import Claim, HealthPolicy, RestartPolicy
from supervisor_app.fleet.columns import column
from supervisor_app.fleet.models import LlamaServer

NO_SETTING = {"max_misses"}


def declared(**said):
    return Setting(
        **{"key": "some_key", "section": Section.HEALTH, "default": 0, "help": "Some help."} | said
    )


# --- The declarations ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "policy"),
    [(Section.RESTART, RestartPolicy), (Section.HEALTH, HealthPolicy), (Section.MEMORY, Claim)],
    ids=["restart", "health", "memory"],
)
def test_every_rule_of_a_policy_has_its_setting(section, policy):
    rules = {rule.name: rule.default for rule in fields(policy) if rule.name not in NO_SETTING}
    assert {setting.attribute: setting.default for setting in settings_of(section)} == rules


def test_no_two_settings_share_a_name():
    assert len({setting.key for setting in SETTINGS}) == len(SETTINGS)
    assert len(BY_FIELD) + len(settings_of(Section.NODE)) == len(SETTINGS)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_a_default_is_what_its_setting_accepts(setting):
    match setting.kind:
        case Kind.NUMBER:
            assert setting.kind.fits(setting.default)
            assert setting.least <= setting.default <= setting.most
        case Kind.LIST:
            assert setting.default == ()
        case Kind.TEXT:
            assert setting.default is None or setting.kind.fits(setting.default)
        case Kind.SWITCH:
            assert setting.kind.fits(setting.default)


@pytest.mark.parametrize("setting", [*SETTINGS, *MEMORY_SETTINGS], ids=lambda setting: setting.key)
def test_a_setting_is_explained_in_whole_sentences_and_short_rows(setting):
    assert all(text.endswith(".") for text in (setting.help, setting.note or "."))
    assert len(setting.row) <= 120


def test_only_what_chooses_programs_and_whom_to_trust_is_left_to_the_config_file():
    assert [setting.key for setting in settings_of(Section.NODE)] == [
        "llama_server_binary",
        "llama_server_users",
    ]


def test_only_the_api_key_is_a_secret():
    assert [setting.key for setting in SETTINGS if setting.secret] == ["llama_api_key"]


# --- What follows from one -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fitting", "others"),
    [
        (Kind.NUMBER, [0, -1, 10**20], [True, 1.0, "1", None, [1]]),
        (Kind.SWITCH, [True, False], [0, 1, "true", None]),
        (Kind.TEXT, ["", "a"], [1, None, True, ["a"]]),
        (Kind.LIST, [[], ["a"]], ["a", (), None, {"a": 1}]),
    ],
)
def test_a_kind_fits_values_of_its_type_alone(kind, fitting, others):
    assert [kind.fits(value) for value in fitting] == [True] * len(fitting)
    assert [kind.fits(value) for value in others] == [False] * len(others)


@pytest.mark.parametrize(
    ("said", "summary"),
    [
        ({}, "Some help."),
        ({"key": "wait_ms"}, "Some help. Milliseconds."),
        ({"key": "wait_ms", "least": 1}, "Some help. Milliseconds."),
        ({"key": "wait_ms", "least": 50}, "Some help. Milliseconds, at least 50."),
        ({"key": "wait_seconds", "zero": "never"}, "Some help. Seconds. 0: never."),
        ({"key": "wait_minutes", "most": 60}, "Some help. Minutes, 0 to 60."),
        ({"key": "size_mb", "zero": "no limit"}, "Some help. Megabytes. 0: no limit."),
        ({"least": 1, "most": 65535}, "Some help. 1 to 65535."),
        ({"least": 2}, "Some help. At least 2."),
        ({"note": "More."}, "Some help."),
    ],
)
def test_a_summary_tells_help_unit_bounds_and_what_0_means(said, summary):
    assert declared(**said).summary == summary


def test_a_form_tells_also_the_note_and_knows_no_marks():
    setting = declared(help="Asks `/health`.", note="See `help`.")
    assert setting.form_help == "Asks /health. See help."
    assert declared().form_help == "Some help."
    linked = declared(note="See [what is kept](models.md#kept), twice [there](x.md).")
    assert linked.form_help == "Some help. See what is kept, twice there."


def test_a_setting_is_a_row_and_with_a_note_an_item():
    setting = declared(default=(), note="More.")
    assert setting.row == "| `some_key` | `[]` | Some help. |"
    assert setting.item == "- `some_key`: More."
    assert declared().item == ""


def test_a_setting_is_stored_and_fed_by_its_key_unless_it_says_otherwise():
    assert (declared().field, declared().attribute) == ("some_key", "some_key")
    named = declared(stored_as="column", fed_as="attribute")
    assert (named.field, named.attribute) == ("column", "attribute")


# --- Columns -------------------------------------------------------------------------------------------

COLUMN_OF_KIND = {
    Kind.NUMBER: models.PositiveIntegerField,
    Kind.SWITCH: models.BooleanField,
    Kind.TEXT: models.CharField,
    Kind.LIST: models.JSONField,
    Kind.TABLE: models.JSONField,
}


def test_every_setting_has_a_column_of_its_kind_and_people_edit_no_other():
    edited = {field.name: type(field) for field in LlamaServer._meta.fields if field.editable}
    declared_ones = {name: COLUMN_OF_KIND[setting.kind] for name, setting in BY_FIELD.items()}
    assert edited == declared_ones | {
        "id": models.BigAutoField,
        "name": models.SlugField,
        "node": models.CharField,
    }


def bounds_of(arguments):
    return {validator.code: validator.limit_value for validator in arguments.get("validators", [])}


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("max_retries", {}),
        ("max_backoff_ms", {"min_value": 1}),
        ("health_check_interval_ms", {"min_value": 50}),
        ("port", {"min_value": 1, "max_value": 65535}),
        ("retry_forever", {}),
    ],
)
def test_a_column_has_the_bounds_of_its_setting(name, bounds):
    assert bounds_of(column(name)) == bounds


def test_a_check_of_its_own_takes_the_place_of_the_bounds():
    assert column("port", len) == {"default": 8134, "validators": [len]}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("host", {"default": "localhost", "max_length": 253, "blank": False}),
        ("models_dir", {"default": "", "max_length": 1000, "blank": True}),
        ("api_key", {"default": None, "max_length": 200, "blank": True}),
        ("args", {"default": list, "blank": True}),
        ("retry_forever", {"default": False}),
        ("max_retries", {"default": 5}),
    ],
)
def test_a_column_has_default_and_length_of_its_setting(name, arguments):
    assert column(name) == arguments
