"""A server's log: the page, and what is shown of it as a file."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from supervisor_app.fleet.logfiles import find_log
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.logs.hidden import Hider
from supervisor_app.logs.lines import line_of
from supervisor_app.logs.query import BadQueryError, filter_of
from supervisor_app.logs.search import BadFilterError, Budget, Matcher, search
from supervisor_app.pages.door import page
from supervisor_app.pages.presenters.script_words import log_words
from supervisor_app.pages.watches import watches_panel
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor_app.logs.history import History, RawLine
    from supervisor_app.logs.search import Filter

DOWNLOAD_BYTES = 32 * 1024 * 1024
"""Bytes of a download, the newest: it is made before it is sent, so that no slow client keeps a turn."""
DOWNLOAD_BUDGET = Budget(lines=300_000, seconds=5.0)


@page(Right.LOOK)
def log(request: HttpRequest, name: str) -> HttpResponse:
    """Show the page, which asks for lines itself and follows them on a socket of its own."""
    server = get_object_or_404(LlamaServer, name=name)
    found = find_log(server)
    context = {"name": name, "node": server.node, "found": found, "now": time.time(), "words": log_words()}
    return render(request, "supervisor/log.html", context | watches_panel(server))


@page(Right.LOOK)
def download(request: HttpRequest, name: str) -> HttpResponse:
    """Answer with the lines that are found, as a text."""
    found = find_log(get_object_or_404(LlamaServer, name=name))
    hider = Hider(found.log.secrets)
    try:
        wanted = filter_of(request.GET.dict())
        with found.history() as history:
            lines = list(_newest(history, wanted, hider))
    except (BadFilterError, BadQueryError) as error:
        return HttpResponse(f"{error}\n", status=400, content_type="text/plain; charset=utf-8")
    except FileNotFoundError as error:
        raise Http404(f"There is no log of {name} here.") from error
    text = "".join(f"{line}\n" for line in reversed(lines))
    disposition = {"Content-Disposition": f'attachment; filename="{name}.log.txt"'}
    return HttpResponse(text, content_type="text/plain; charset=utf-8", headers=disposition)


def _newest(history: History, wanted: Filter, hider: Hider) -> Iterator[str]:
    """Yield what is shown of the newest lines, newest first; the last one tells what was left out."""
    raws, is_whole = _raws(history, wanted, hider)
    size = 0
    for raw in raws:
        text = line_of(raw, hider).text
        size += len(text) + 1
        if size > DOWNLOAD_BYTES:
            is_whole = False
            break
        if text:
            yield text
    if not is_whole:
        yield "--- Only the newest lines are here: llamaproxy bounds the size and the time of a download."


def _raws(history: History, wanted: Filter, hider: Hider) -> tuple[Iterator[RawLine], bool]:
    """Return lines, newest first, and whether these are all."""
    if wanted.is_empty:
        return islice(history.lines_back(), DOWNLOAD_BUDGET.lines), history.size <= DOWNLOAD_BYTES
    found = search(history, Matcher(wanted, hider), None, DOWNLOAD_BUDGET)
    return reversed(found.lines), found.reached is None
