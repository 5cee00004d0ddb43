"""What an installation is made of: systemd units and locked versions."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
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
