"""Addresses of ours are made from their names: nothing spells them, and every name of a server has one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor_app.fleet.converters import NameConverter

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
SCRIPTS = sorted(
    path
    for path in (ROOT / "static").rglob("*")
    if path.suffix in (".js", ".css") and "vendor" not in path.parts
)
MODULES = sorted(
    path for folder in ("llamaproxy", "supervisor_app") for path in (ROOT / folder).rglob("*.py")
)
ROOTS = (
    "servers",
    "api",
    "login",
    "password",
    "livez",
    "readyz",
    "admin",
    "static",
    "llamaproxws",
    "favicon.ico",
)
"""First words of our own paths. `/metrics` is not among them: the gateway and llama-server have one, too."""
SPELLED = re.compile(rf"(?:^|[\s\"'`(=])/(?:{'|'.join(ROOTS)})(?![\w-])")
AT_THE_ROOT = re.compile(r"\b(?:href|action|src|hx-\w+)=[\"']/")
NOT_OURS = {
    ("supervisor_app/core/machine/probe.py", "/api/models"): "llama-server's",
    ("llamaproxy/settings.py", "/static/"): "the one place that says where static files are",
}


def docstrings(tree):
    """Constants that document: a string as a statement of its own."""
    statements = (node for node in ast.walk(tree) if isinstance(node, ast.Expr))
    return {node.value for node in statements if isinstance(node.value, ast.Constant)}


def spelled_in(path):
    """Strings of a module in which an address of ours is spelled, pieces of f-strings among them."""
    tree = ast.parse(path.read_text())
    documenting = docstrings(tree)
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documenting
        if is_text and SPELLED.search(node.value):
            yield str(path.relative_to(ROOT)), node.value


def test_the_files_to_search_are_found():
    assert len(TEMPLATES) > 15
    assert SCRIPTS
    assert len(MODULES) > 100


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_names_addresses_and_spells_none(path):
    text = path.read_text()
    assert SPELLED.findall(text) == []
    assert AT_THE_ROOT.findall(text) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_and_styles_spell_no_address(path):
    assert SPELLED.findall(path.read_text()) == []


def test_modules_spell_no_address():
    assert {found for path in MODULES for found in spelled_in(path)} == set(NOT_OURS)


@pytest.mark.parametrize(
    "text", ['"/servers/{{ name }}/"', "See /api/servers/.", "/login", "url(/static/x.svg)"]
)
def test_a_spelled_address_would_be_found(text):
    assert SPELLED.search(text)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
@example("")
@example("~")
@example("..")
@example("a/b c%2F")
@example("modèle")
def test_every_name_has_an_address_that_leads_back_to_it(name):
    names = NameConverter()
    path = names.to_url(name)
    assert re.fullmatch(names.regex, path)
    assert names.to_python(path) == name


@given(st.from_regex(r"[-a-zA-Z0-9_]+", fullmatch=True))
def test_a_slug_is_its_own_address(name):
    assert NameConverter().to_url(name) == name


@pytest.mark.parametrize("path", ["a~00", "~FF", "~C3"])
def test_an_address_of_no_possible_name_is_none(path):
    assert re.fullmatch(NameConverter.regex, path)
    with pytest.raises(ValueError):
        NameConverter().to_python(path)


@pytest.mark.parametrize("path", ["", "a b", "a.b", "~g0", "~4", "a/b", "~ff"])
def test_other_characters_are_in_no_address(path):
    assert not re.fullmatch(NameConverter.regex, path)
