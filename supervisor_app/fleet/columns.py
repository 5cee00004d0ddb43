"""Columns of `LlamaServer` as its settings are declared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.validators import MaxValueValidator, MinValueValidator

from supervisor_app.core.setting import LARGEST, Kind, Setting
from supervisor_app.core.settings import BY_FIELD

if TYPE_CHECKING:
    from collections.abc import Callable

_EMPTY = {Kind.LIST: list, Kind.TABLE: dict}
"""Factory of an empty value: each row has its own."""


def column(name: str, *validators: Callable[[Any], None]) -> dict[str, Any]:
    """Return the arguments of the column that holds a setting: default, length, bounds.

    `validators` take the place of the declared bounds where these deserve a sentence of their own. Texts for
    people are left to the forms: another word must not need a migration.
    """
    setting = BY_FIELD[name]
    arguments: dict[str, Any] = {"default": _EMPTY.get(setting.kind, setting.default)}
    if setting.longest is not None:
        arguments["max_length"] = setting.longest
    if setting.kind in (Kind.TEXT, *_EMPTY):
        arguments["blank"] = not setting.required
    checks = list(validators) or _bounds(setting)
    return {**arguments, "validators": checks} if checks else arguments


def _bounds(setting: Setting) -> list[Callable[[Any], None]]:
    if setting.kind is not Kind.NUMBER:
        return []
    bounds: list[Callable[[Any], None]] = []
    if setting.least > 0:  # 0 is the least that the column takes anyway
        bounds.append(MinValueValidator(setting.least))
    if setting.most < LARGEST:
        bounds.append(MaxValueValidator(setting.most))
    return bounds
