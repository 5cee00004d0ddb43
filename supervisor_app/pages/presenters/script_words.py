"""Words of scripts, handed to them with the page: a script has no catalogue of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES = {"zero": 0, "one": 1, "two": 2, "few": 3, "many": 11, "other": 100}
"""A number of each category of `Intl.PluralRules`, by which a script chooses a form."""


def script_words() -> dict[str, Any]:
    """Return texts by the names under which `js/dom.js` finds them; `{name}` is filled in by the script."""
    return {
        "ago": _("{time} ago"),
        "justNow": _("just now"),
        "in": _("in {time}"),
        "now": _("now"),
        "shown": _("{shown} of {all}"),
        "readyOf": _("{ready} of {all} ready – llamaproxy"),
        "notLive": _("? not live"),
        "ask": _("{verb} {name}?"),
        "cancel": _("Cancel"),
        "keys": {
            "show-keys": _("Show these keys"),
            "search": _("Filter or search on this page"),
            "palette": _("Go to a server or page, or do something"),
        },
    }


def log_words() -> dict[str, Any]:
    """Return the texts of the scripts of the log."""
    return {
        "searchedAll": _("{lines}. Searched all {total}."),
        "searched": _("{lines}. Searched {bytes} of {total}."),
        "searchedBack": _("{lines}. Searched back to {back}, {bytes} of {total}."),
        "found": _forms(lambda n: ngettext("{count} line", "{count} lines", n)),
        "news": _forms(lambda n: ngettext("{count} new line ↓", "{count} new lines ↓", n)),
        "skipped": _forms(
            lambda n: ngettext(
                "{count} line ({size}) skipped: it came too fast to show",
                "{count} lines ({size}) skipped: they came too fast to show",
                n,
            )
        ),
        "skippedBytes": _("{size} skipped: they came too fast to show"),
        "onNode": _("on node {node}, every 2 s"),
        "lineCopied": _("Line copied."),
        "linkCopied": _("Link copied."),
        "unreached": _("llamaproxy cannot be reached."),
        "failed": _("llamaproxy failed at it (error {status})."),
        "run": _("run {number}"),
        "ended": _("{title}: {run} ended {at}"),
        "newRun": _("Run {number}"),
        "started": _("{run} started {at}"),
        "startedBuild": _("{run} started {at}, build {build}"),
    }


def _forms(said: Callable[[int], str]) -> dict[str, str]:
    """Return the forms of a text for the numbers that a script will count."""
    return {category: said(number) for category, number in SAMPLES.items()}
