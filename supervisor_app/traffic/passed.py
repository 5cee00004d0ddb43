"""All that gateways have written down of servers, in sums that only grow: for samples. Blocking."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.db.models import Case, Count, F, FloatField, Q, Sum, When
from django.db.models.functions import Coalesce

from supervisor_app.common.database import Rows
from supervisor_app.fleet.course import Passed
from supervisor_app.traffic.live import rows_in_flight, sums_in_flight
from supervisor_app.traffic.models import RequestRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.models import QuerySet

_TIMED = Q(ttft_ms__isnull=False, generated_tokens__gt=1)
"""Answers that tell how long each token after the first took."""
_SUMS: dict[str, Any] = {
    "generated": Coalesce(Sum("generated_tokens"), 0),
    "prompt": Coalesce(Sum("prompt_tokens"), 0),
    "cached": Coalesce(Sum("cached_tokens"), 0),
    "first_tokens": Count("ttft_ms"),
    "first_token_ms": Coalesce(Sum("ttft_ms"), 0.0),
    "later_tokens": Coalesce(Sum(F("generated_tokens") - 1, filter=_TIMED), 0),
    "later_token_ms": Coalesce(
        Sum(Case(When(_TIMED, then=F("duration_ms") - F("ttft_ms"))), output_field=FloatField()), 0.0
    ),
}


def _newest() -> QuerySet[RequestRecord, int]:
    return RequestRecord.objects.order_by("-pk").values_list("pk", flat=True)


class Tally:
    """Adds up the requests that ended since the first call, by server. For one thread."""

    def __init__(self) -> None:
        self.rows = Rows(lambda: _newest()[:1], rows_in_flight)
        """All that is added up depends on these."""
        self._last: int | None = None
        """Number of the newest record that was added."""
        self._sums: dict[str, Passed] = {}

    def __call__(self) -> Mapping[str, Passed]:
        """Raises what the database raises."""
        newest = _newest().first() or 0
        if self._last is None:
            self._last = newest
        if newest > self._last:
            self._add(self._last, newest)
        flying = sums_in_flight()
        found = dict(self._sums)
        for name, (inside, waiting, tokens) in flying.items():
            found[name] = replace(
                found.get(name, Passed()), in_flight=inside, waiting=waiting, streaming=tokens
            )
        return found

    def _add(self, last: int, newest: int) -> None:
        ended = RequestRecord.objects.filter(pk__gt=last, pk__lte=newest).exclude(server="").order_by()
        rows: list[Any] = list(
            ended.values("server").annotate(**{f"of_{name}": each for name, each in _SUMS.items()})
        )
        for row in rows:
            known = self._sums.get(row["server"], Passed())
            grown = {name: getattr(known, name) + row[f"of_{name}"] for name in _SUMS}
            self._sums[row["server"]] = replace(known, **grown)
        self._last = newest
