"""Filters of llama-swap as presets: every name that clients use leads to what it led to."""

from __future__ import annotations

import tomllib

import pytest

from supervisor_app.gateway.llama.preset_mistakes import UNTOUCHED as UNTOUCHED_BY_PRESETS
from supervisor_app.gateway.llama.preset_mistakes import mistakes_in
from supervisor_app.importing.filters import UNTOUCHED
from supervisor_app.importing.found import ImportMistakeError
from supervisor_app.importing.kinds import import_text
from supervisor_app.importing.written import write_toml

MODEL = """
models:
  qwen:
    cmd: llama-server -m /m/qwen.gguf -a ${MODEL_ID},other --port ${PORT}
    aliases: [chat, fast]
    filters:
"""


def made_of(filters):
    return write_toml(import_text(MODEL + "\n".join(f"      {line}" for line in filters.splitlines())))


def server_of(filters):
    ((name, server),) = tomllib.loads(made_of(filters))["servers"].items()
    assert list(mistakes_in(server.get("presets", {}))) == []
    return name, server


def test_filters_of_all_requests_make_each_name_of_the_model_a_preset():
    name, server = server_of('stripParams: "temperature, top_p"\nsetParams: {top_k: 40, o: {a: [1, x]}}')
    filtered = {"remove": ["temperature", "top_p"], "set": {"top_k": 40, "o": {"a": [1, "x"]}}}
    assert name == "qwen-plain"
    assert server["presets"] == {"qwen": filtered, "chat": filtered, "fast": filtered}
    assert "aliases" not in server
    assert "args" not in server  # its own alias is the name of a preset


def test_filters_by_name_make_presets_and_leave_other_names():
    name, server = server_of('setParamsByID: {"${MODEL_ID}:high": {effort: high}, fast: {effort: low}}')
    assert name == "qwen"
    assert server["presets"] == {"qwen:high": {"set": {"effort": "high"}}, "fast": {"set": {"effort": "low"}}}
    assert server["aliases"] == ["chat"]
    assert server["args"] == ["-a", "qwen,other"]


def test_filters_by_name_come_on_top_of_those_of_all_requests():
    _, server = server_of("setParams: {top_k: 40, seed: 1}\nsetParamsByID: {fast: {top_k: 1, seed: null}}")
    assert server["presets"]["fast"] == {"remove": ["seed"], "set": {"top_k": 1}}
    assert server["presets"]["chat"] == {"set": {"top_k": 40, "seed": 1}}


@pytest.mark.parametrize("filters", ["stripParams: ' , model'", "setParams: {}", "setParams: {model: x}"])
def test_filters_that_change_nothing_make_no_preset(filters):
    name, server = server_of(filters)
    assert (name, server["aliases"], "presets" in server) == ("qwen", ["chat", "fast"], False)


def test_a_filter_for_a_field_that_no_preset_may_change_is_a_remark():
    made = made_of("setParams: {stream: false, top_k: 1}\nstripParams: messages")
    assert '# line 8: filters.stripParams = "messages": no preset changes this field.' in made
    assert '# line 7: filters.setParams = "stream": no preset changes this field.' in made
    assert set(UNTOUCHED_BY_PRESETS) == UNTOUCHED


def test_a_filter_that_is_not_known_is_a_remark():
    assert "# line 7: filters.other = 1: this key is not known here." in made_of("other: 1")


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ("setParams: {o: {a: null}}", "line 7: models.qwen.filters.setParams.o: there is no null in TOML."),
        ("setParams: {o: .nan}", "line 7: models.qwen.filters.setParams.o: nan is no JSON"),
        (
            "setParams: {o: 2020-01-01}",
            "models.qwen.filters.setParams.o: 2020-01-01 is no JSON",
        ),
        ("setParams: 1", "line 7: models.qwen.filters.setParams: it must be a mapping."),
        ("setParamsByID: {x: 1}", "models.qwen.filters.setParamsByID.x: it must be a mapping."),
        ('setParamsByID: {"${X}": {a: 1}}', "there is no macro ${X}."),
    ],
)
def test_a_mistake_in_a_filter_is_told_with_its_line(filters, says):
    with pytest.raises(ImportMistakeError) as raised:
        made_of(filters)
    assert says in str(raised.value)
