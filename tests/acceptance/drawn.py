"""Pages of servers that are drawn into the database, for tests in a browser, and the rules that none may break.

No supervisor changes the rows while a test looks.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.acceptance.browsing import badge, expect

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text()
"""axe-core 4.10.3 as its npm package has it, under the MPL 2.0."""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
CHECK = """async rules => (await axe.run(document, {runOnly: rules})).violations.map(
    broken => `${broken.id}: ${broken.nodes.map(node => `${node.html.slice(0, 160)} ${node.any[0]?.message ?? ""}`)}`
)"""


RENEW = "UPDATE supervisor_app_nodelease SET renewed_at = strftime('%Y-%m-%d %H:%M:%f', 'now', '+10 seconds')"


DRAW = """
from supervisor_app.alerts.models import Incident, IncidentNote
from supervisor_app.fleet.models import AuditEntry
from supervisor_app.fleet.status_page import choose
from tests.scenes import draw

draw("three")
choose({"gemma-3-12b": "Chat", "qwen3-30b-a3b": "Coding"})
incident = Incident.objects.filter(server__name="gemma-3-12b").latest("opened_at")
AuditEntry.objects.create(actor="someone", door="page", action="add", subject="key", after={"note": "x" * 300})
IncidentNote.objects.create(incident=incident, text="A new card is on its way.", author="someone")
"""

SINGLE_SIGN_ON = {
    "LLAMAPROXY_SSO_ISSUER": "https://id.example.org",
    "LLAMAPROXY_SSO_CLIENT_ID": "llamaproxy",
    "LLAMAPROXY_SSO_CLIENT_SECRET": "secret",
    "LLAMAPROXY_SSO_OTHERS": "viewer",
}
"""A button on the login page. The provider is never asked."""


@pytest.fixture(scope="module")
def drawn(make_shared):
    """Pages of three servers, one of them crashed with a note, and the cookies of a member of the staff."""
    proxy = make_shared()
    proxy.env["DEBUG"] = "1"
    proxy.env |= SINGLE_SIGN_ON if find_spec("mozilla_django_oidc") else {}
    proxy.python(DRAW)
    proxy.start_web()
    session = proxy.login("someone")
    proxy.write("UPDATE auth_user SET is_superuser = 1")  # Django's admin asks for rights of its own
    proxy.cookies = [
        {"name": name, "value": value, "url": proxy.url} for name, value in session.cookies.items()
    ]
    return proxy


@pytest.fixture
def visit(drawn, tabs):
    """Open a page as staff, once it is live."""

    def open_page(path, script="", *, live=True, staff=True, **options):
        drawn.write(RENEW)  # no supervisor does
        context = tabs.context(**options)
        context.add_init_script(script)
        if staff:
            context.add_cookies(drawn.cookies)
        page = tabs.open(drawn.url + path, context)
        if live:
            expect(badge(page)).to_have_text("live")
        return page

    return open_page


SETTLED = """() => Promise.allSettled(
    document.getAnimations().filter(each => each instanceof CSSTransition).map(each => each.finished)
)"""
"""Links of Django's admin fade to their colour when the scheme changes: halfway it has too little contrast."""


def complaints_of_axe(page):
    page.evaluate(AXE)
    page.evaluate(SETTLED)
    return page.evaluate(CHECK, RULES)
