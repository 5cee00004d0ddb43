"""The rooms of the house: who may import whom."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = sorted((ROOT / "supervisor_app" / "core").glob("*.py"))
GATEWAY = sorted((ROOT / "supervisor_app" / "gateway").glob("*/__init__.py"))


@pytest.mark.parametrize("module", [path.stem for path in CORE if path.stem != "__init__"])
def test_core_imports_without_django(module):
    code = f"import sys, supervisor_app.core.{module}; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("package", [path.parent.name for path in GATEWAY])
def test_the_packages_of_the_gateway_import_without_django(package):
    modules = sorted(path.stem for path in (ROOT / "supervisor_app" / "gateway" / package).glob("*.py"))
    names = ", ".join(f"supervisor_app.gateway.{package}.{module}" for module in modules)
    code = f"import sys, {names}; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_state_machine_knows_no_clock_process_or_network():
    code = (
        "import sys, supervisor_app.core.lifecycle, supervisor_app.core.wording;"
        "sys.exit(bool({'requests', 'psutil', 'subprocess', 'socket', 'asyncio'} & set(sys.modules)))"
    )
    # -S: without what the environment loads into every Python, such as a coverage tool.
    assert subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_launcher_stands_alone():
    """It is run by path in isolated mode, where nothing of ours can be imported."""
    source = (ROOT / "supervisor_app" / "engine" / "launcher.py").read_text()
    assert "supervisor_app" not in source


def test_the_app_package_is_empty():
    assert (ROOT / "supervisor_app" / "__init__.py").read_text().strip() == ""
