"""The table `[models]` of `llamaproxy.toml`: where models lie on this node, and how they are downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from supervisor_app.core.setting import Kind, Section, Setting
from supervisor_app.fleet.memory_table import bounds, fits

if TYPE_CHECKING:
    from supervisor_app.fleet.memory_table import Complaints

TABLE = "models"


@dataclass(frozen=True, kw_only=True)
class ModelRules:
    """Rules of a node for its model files."""

    models_dir: str = ""
    """Empty: `models` in the data directory."""
    download_mb_per_second: int = 0
    parallel_downloads: int = 1


MODEL_SETTINGS = (
    Setting(
        key="models_dir",
        section=Section.NODE,
        kind=Kind.TEXT,
        default=ModelRules.models_dir,
        help="Directory of models. By default `models` in the data directory.",
    ),
    Setting(
        key="download_mb_per_second",
        section=Section.NODE,
        default=ModelRules.download_mb_per_second,
        help="Megabytes that all downloads together take of the network in a second.",
        zero="no bound",
    ),
    Setting(
        key="parallel_downloads",
        section=Section.NODE,
        default=ModelRules.parallel_downloads,
        least=1,
        most=16,
        help="Downloads that run at once.",
    ),
)
KEYS = {setting.key: setting for setting in MODEL_SETTINGS}


def read_models(table: dict[str, Any], complaints: Complaints) -> ModelRules:
    """Read the table; what is wrong is left out and complained of."""
    said: dict[str, Any] = {}
    for key, value in table.items():
        at = (TABLE, key)
        setting = KEYS.get(key)
        if setting is None:
            complaints.unknown(at, tuple(sorted(KEYS)))
        elif setting.kind is Kind.TEXT:
            if isinstance(value, str) and value.strip() and "\0" not in value:
                said[key] = value
            else:
                complaints.wrong(at, value, 'a directory, such as "/srv/models"')
        elif fits(value, setting.least, setting.most):
            said[key] = value
        else:
            complaints.wrong(at, value, f"a whole number of {bounds(setting)}")
    return ModelRules(**said)


def model_lines(rules: ModelRules) -> dict[str, str]:
    """Return each key with its value in words."""
    said = {key: str(getattr(rules, key)) for key in KEYS}
    return {**said, "models_dir": rules.models_dir or "models in the data directory"}
