"""What an installation is made of: systemd units, locked versions, the files of a wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
MOST_EXPOSED = 4.0
"""Of 10, as `systemd-analyze security` rates a unit; unhardened ones get 9.6."""


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_exposes_little_of_the_system(unit):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (apt install systemd)")
    command = ["systemd-analyze", "security", "--offline=true", unit]
    rated = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", rated)
    assert exposure is not None, rated
    assert float(exposure[1]) <= MOST_EXPOSED


def pins(lock):
    return set(re.findall(r"^([a-z0-9._-]+==\S+)", (DEPLOY / lock).read_text(), re.MULTILINE))


def test_an_installation_has_the_versions_that_were_tested():
    production = pins("production.lock")
    assert production <= pins("requirements.lock")
    assert not {pin for pin in production if pin.startswith(("pytest", "mypy", "ruff", "playwright"))}
    assert {pin.partition("==")[0] for pin in production} >= {"django", "django-axes", "psycopg", "xllamacpp"}


def test_every_locked_version_has_its_hashes():
    for lock in ("production.lock", "requirements.lock"):
        for entry in re.split(r"\n(?=[a-z])", (DEPLOY / lock).read_text()):
            if "==" in entry:
                assert "--hash=sha256:" in entry, entry


LOOK = """
import django; django.setup()
from django.contrib.staticfiles import finders
from django.core.management import call_command, get_commands
from django.template.loader import get_template
call_command("migrate", verbosity=0)
print(get_template("supervisor/home.html").origin.name)
print(get_template("admin/traffic/apikey/made.html").origin.name)
print(finders.find("supervisor/favicon.svg"))
print(*sorted(name for name, app in get_commands().items() if app.startswith("supervisor_app")))
"""


def test_a_wheel_finds_its_files_where_it_is_installed(tmp_path):
    """As hatch lays it out: building one would need the network."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    places = {**{package: package for package in wheel["packages"]}, **wheel["force-include"]}
    for source, place in places.items():
        shutil.copytree(ROOT / source, tmp_path / place, dirs_exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "DJANGO_SETTINGS_MODULE": "llamaproxy.settings",
        "LLAMAPROXY_DATA_DIR": str(tmp_path / "data"),
    }
    found = subprocess.run(
        [sys.executable, "-c", LOOK],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.splitlines()
    inside = tmp_path / "llamaproxy"
    assert found == [
        str(inside / "templates" / "supervisor" / "home.html"),
        str(inside / "templates" / "admin" / "traffic" / "apikey" / "made.html"),
        str(inside / "static" / "supervisor" / "favicon.svg"),
        "drill llama rungateway runsupervisor",
    ]
