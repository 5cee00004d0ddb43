"""The table `[models]` of `llamaproxy.toml`: where models lie on this node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from supervisor_app.core.settings import Kind, Section, Setting

if TYPE_CHECKING:
    from supervisor_app.fleet.memory_table import Complaints

TABLE = "models"


@dataclass(frozen=True, kw_only=True)
class ModelRules:
    """Rules of a node for its model files."""

    models_dir: str = ""
    """Empty: `models` in the data directory."""


MODEL_SETTINGS = (
    Setting(
        key="models_dir",
        section=Section.NODE,
        kind=Kind.TEXT,
        default=ModelRules.models_dir,
        help="Directory of models. By default `models` in the data directory.",
    ),
)
KEYS = {setting.key: setting for setting in MODEL_SETTINGS}


def read_models(table: dict[str, Any], complaints: Complaints) -> ModelRules:
    """Read the table; what is wrong is left out and complained of."""
    said: dict[str, Any] = {}
    for key, value in table.items():
        at = (TABLE, key)
        if key not in KEYS:
            complaints.unknown(at, tuple(sorted(KEYS)))
        elif isinstance(value, str) and value.strip() and "\0" not in value:
            said[key] = value
        else:
            complaints.wrong(at, value, 'a directory, such as "/srv/models"')
    return ModelRules(**said)


def model_lines(rules: ModelRules) -> dict[str, str]:
    """Return each key with its value in words."""
    return {"models_dir": rules.models_dir or "models in the data directory"}
