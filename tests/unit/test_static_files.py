"""Styles and scripts: each file is loaded by a page, and a script imports what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ROOT / "static" / "supervisor"
STYLES = sorted(path.relative_to(ROOT / "static").as_posix() for path in OURS.rglob("*.css"))
SCRIPTS = sorted((OURS / "js").glob("*.js"))
PAGES = "".join(path.read_text() for path in (ROOT / "templates").rglob("*.html"))
IMPORT = re.compile(r'^import (?:\{[^}]+\} from )?"\./([\w.]+)";$', re.MULTILINE)


def imported_by(path):
    return [path.with_name(name) for name in IMPORT.findall(path.read_text())]


def test_every_style_is_linked():
    assert len(STYLES) > 5
    assert [name for name in STYLES if f"'{name}'" not in PAGES] == []


def test_every_script_is_loaded_or_imported():
    loaded = [path for path in SCRIPTS if f"'supervisor/js/{path.name}'" in PAGES]
    reached = {*loaded, *(module for path in SCRIPTS for module in imported_by(path))}
    assert loaded
    assert reached == set(SCRIPTS)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_imports_only_what_is_there_and_in_one_form(path):
    assert len(imported_by(path)) == len(re.findall(r"\bimport\b", path.read_text()))
    assert [module.name for module in imported_by(path) if not module.exists()] == []
