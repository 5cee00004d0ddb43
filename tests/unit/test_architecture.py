"""The rooms of the house, as far as the contracts in pyproject.toml cannot see them.

The contracts look at the imports in our own text; these tests, at what an import loads in the end.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
APP = ROOT / "supervisor_app"
LAUNCHER = APP / "engine" / "launcher.py"


def test_supervision_and_the_data_plane_load_no_django():
    gateway = {path.parent for path in APP.glob("gateway/*/__init__.py")} - {APP / "gateway" / "edge"}
    rooms = [APP / "core", APP / "engine", *gateway]
    files = [APP / "gateway" / "problems.py", *(path for room in rooms for path in room.rglob("*.py"))]
    names = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in files
        if path != LAUNCHER
    )
    code = f"import sys, {', '.join(names)}; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_state_machine_loads_no_clock_process_or_network():
    code = (
        "import sys, supervisor_app.core.lifecycle, supervisor_app.core.wording;"
        "sys.exit(bool({'requests', 'psutil', 'subprocess', 'socket', 'asyncio'} & set(sys.modules)))"
    )
    # -S: without what the environment loads into every Python.
    assert subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_launcher_stands_alone():
    """It is run by path in isolated mode, where nothing of ours can be imported."""
    assert "supervisor_app" not in LAUNCHER.read_text()


def test_the_app_package_is_empty():
    assert (APP / "__init__.py").read_text().strip() == ""
