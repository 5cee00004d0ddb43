"""API keys in the words of their pages. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from supervisor_app.common.words import thousands

if TYPE_CHECKING:
    from datetime import datetime

    from supervisor_app.traffic.budgets import Sums
    from supervisor_app.traffic.models import ApiKey


@dataclass(frozen=True, kw_only=True)
class KeyRow:
    """A key as its row and its page say it."""

    key: ApiKey
    state: str
    tone: str
    remark: str
    """More of the state: until when."""
    limits: tuple[str, ...]
    sums: Sums
    share: int
    """Percent of its budget that is used, 100 at most; 0 without one."""


def row_of(key: ApiKey, sums: Sums, now: datetime) -> KeyRow:
    """Put a key and what it has used into words."""
    state, tone, remark = _state(key, sums, now)
    budget = key.tokens_per_month
    return KeyRow(
        key=key,
        state=state,
        tone=tone,
        remark=remark,
        limits=tuple(_limits(key)),
        sums=sums,
        share=min(100, 100 * sums.month // budget) if budget else 0,
    )


def _state(key: ApiKey, sums: Sums, now: datetime) -> tuple[str, str, str]:
    if not key.enabled:
        return _("Switched off"), "calm", ""
    if key.expires_at is not None and key.expires_at <= now:
        return _("Expired"), "warn", f"{key.expires_at:%Y-%m-%d %H:%M} UTC"
    if key.tokens_per_month and sums.month >= key.tokens_per_month:
        return _("Budget used up"), "warn", _("until the month ends")
    remarks = []
    if key.expires_at is not None:
        remarks.append(_("until %(time)s") % {"time": f"{key.expires_at:%Y-%m-%d %H:%M} UTC"})
    if key.old_until is not None and key.old_until > now:
        remarks.append(_("old secret until %(time)s") % {"time": f"{key.old_until:%Y-%m-%d %H:%M} UTC"})
    return _("In force"), "up", " · ".join(remarks)


def _limits(key: ApiKey) -> list[str]:
    limits = [
        (key.requests_per_minute, _("%(count)s requests/min")),
        (key.tokens_per_minute, _("%(count)s tokens/min")),
        (key.max_concurrent, _("%(count)s at once")),
        (key.tokens_per_month, _("%(count)s tokens/month")),
    ]
    return [words % {"count": thousands(count)} for count, words in limits if count]
