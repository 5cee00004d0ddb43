"""Mistakes in what is to be imported: one sentence, whatever the text is."""

from __future__ import annotations

import tomllib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor_app.importing.found import ImportMistakeError
from supervisor_app.importing.kinds import import_text
from supervisor_app.importing.written import value_of, write_toml
from tests.unit.importing.test_sources import SOURCES

BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "It is empty. Known are llama-swap's YAML"),
        ("# nothing\n", "It is empty."),
        ("hello there", "It is of no known kind"),
        ("a: 1", "Its keys are those of no known kind. Known are"),
        ("[servers.a]\nmodel_path = 'x'", "It looks like a llamaproxy.toml already"),
        ("models:\n  a:\n    cmd: [", "line 3: this is no YAML"),
        ("models:\n  a:\n    ttl: 5", "line 2: models.a.cmd: every model needs a command line"),
        ("models:\n  a: 5", "line 2: models.a: it must be a mapping"),
        (
            "models:\n  a:\n    cmd: llama-server -m ${no} -c 1",
            "line 3: models.a.cmd: there is no macro ${no}. Macros: MODEL_ID.",
        ),
        (
            "macros: {a: '${b}${b}', b: '${a}${a}'}\nmodels:\n  a:\n    cmd: llama-server ${a}",
            "line 4: models.a.cmd: its macros do not come to an end",
        ),
        (
            "models:\n  a:\n    ttl: soon\n    cmd: llama-server -m a",
            "line 3: models.a.ttl: it is 'soon', and must be a whole number",
        ),
        ("models:\n  a: {cmd: llama-server -m a}\n  a: {}", "line 3: models.a was set before, in line 2"),
        ("models:\n  a:\n    cmd: llama-server -m", "line 3: models.a.cmd: -m has no value. Write one"),
        ("models:\n  a:\n    cmd: 'llama-server \"x'", "line 3: models.a.cmd: it cannot be read"),
        ("models: {}\nstartPort: 70000", "line 2: startPort: 70000 is no port"),
        (f"models: {{}}\n{BOMB}", "more than 100000 values once aliases are replaced"),
        ("models: &a\n  b: *a", "more than 100000 values"),
        ("models: " + "[" * 5000, "nested too deeply"),
        (
            "services:\n  web: {image: nginx}",
            "Nothing to import in a Docker Compose file. line 2: web (nginx) is left",
        ),
        (
            "services:\n  a:\n    image: llama.cpp\n    ports: 8080",
            "line 4: services.a.ports: it must be a list",
        ),
        (
            "services:\n  a:\n    image: llama.cpp\n    command: -m a\n    stop_grace_period: soon",
            "line 5: services.a.stop_grace_period: write it as 30s",
        ),
        (
            "services:\n  a: {image: llama.cpp, command: sh -c x}",
            "line 2: a (llama.cpp) is left out: it does not run llama-server",
        ),
        ("models:\n  4: {}", "line 2: models.4.cmd: every model needs"),
        ("version = 1\n[a]\nnonsense", "line 3: this is neither a [section] nor key = value"),
        ("[a]\nm = x\n[a]", "line 3: there is a section [a] before"),
        ("[a]\nm = x\nstop-timeout = soon", "line 3: a.stop-timeout: it is 'soon'"),
        ("[a]\nc = 5", "Nothing to import in llama.cpp's presets of models. a: left out"),
        ("[Service]\nUser=x", "the section [Service] has no ExecStart"),
        ("[Service]\nExecStart=/usr/bin/nginx", "line 2: ExecStart: it does not run llama-server"),
        (
            "[Service]\nExecStart=/bin/llama-server -m a\nRestartSec=soon",
            "line 3: RestartSec: 'soon' is no time",
        ),
        ("llama-server -m a | tee log", "'|' is for a shell"),
        ("llama-server --models-preset m.ini", "in the file of --models-preset. Import that file."),
        ("llama-server -m a --port http", "--port is 'http'. Write a number"),
        (
            "llama-server -c 8192",
            "Nothing to import in a command line. default: left out, because it names no",
        ),
    ],
)
def test_a_mistake_is_one_sentence(text, said):
    with pytest.raises(ImportMistakeError) as raised:
        import_text(text)
    assert said in str(raised.value)


@given(
    st.sampled_from(sorted(SOURCES)),
    st.lists(
        st.tuples(
            st.integers(0, 120), st.sampled_from(["", "- x", "a: [", "  b: 1", "x = \ud800", "\0\x7f", "'"])
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_a_damaged_file_is_imported_or_refused_with_a_sentence(name, damage):
    lines = SOURCES[name].splitlines()
    for place, text in damage:
        lines[place % len(lines)] = text
    with suppress(ImportMistakeError):  # and nothing else
        tomllib.loads(write_toml(import_text("\n".join(lines))))


@given(
    st.recursive(
        st.text(st.characters(exclude_categories=["Cs"])) | st.integers(-(2**31), 2**31) | st.booleans(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
        ),
    )
)
def test_a_value_is_read_as_it_was_written(value):
    assert tomllib.loads(f"it = {value_of(value)}") == {"it": value}
