"""The documents of the project, for the tests that read them."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

from django.core.management import load_command_class
from django.core.management.base import BaseCommand

ROOT = Path(__file__).parents[2]
DOCS = {path.stem: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
DEPTH = {path.stem: path.read_text() for path in sorted((ROOT / "docs" / "architecture").glob("*.md"))}
"""The documents below ARCHITECTURE.md, which is the map."""
LOCK = (ROOT / "deploy" / "requirements.lock").read_text()
CI = (ROOT / ".ci" / "run").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

DOCUMENTS = [
    *(f"docs/{name}.md" for name in DOCS),
    *(f"docs/architecture/{name}.md" for name in DEPTH),
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
]


def own_options(name):
    """Return the options that a command adds to those of every Django command."""
    parser = load_command_class("supervisor_app.roles", name).create_parser("manage.py", name)
    common = BaseCommand().create_parser("manage.py", name)
    known = {option for action in common._actions for option in action.option_strings}
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    own = {option for action in shown for option in action.option_strings}
    return sorted(own - known)


def words(text):
    """Return the text in one line."""
    return " ".join(text.split())


def sources_of(folder):
    """Return the text of all modules in a folder."""
    return "".join(path.read_text() for path in sorted((ROOT / folder).rglob("*.py")))
