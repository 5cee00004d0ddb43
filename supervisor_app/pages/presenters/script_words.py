"""Words of scripts, handed to them with the page: a script has no catalogue of its own."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _


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
