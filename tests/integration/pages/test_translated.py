"""Pages in another language: all of what they say comes from the catalogue, but for data."""

from __future__ import annotations

import re
import struct
from html.parser import HTMLParser

import pytest
from django.utils import translation
from django.utils.translation import trans_real

from supervisor_app.alerts.models import AlertChannel, Delivery, Incident
from supervisor_app.core.status import Status
from supervisor_app.fleet.logins import new_login_token
from tests.integration.building import OUT_OF_MEMORY, STARTED, at, long_ago, make_run, make_server, make_state

pytestmark = pytest.mark.django_db

SILENT = {"code", "kbd", "pre", "script", "style"}
READ = {"alt", "aria-label", "aria-description", "hx-confirm", "placeholder", "title", "data-word"}
DATA = ("llamaproxy", "llama-server", "alpha", "beta", "ops-chat", "local", OUT_OF_MEMORY.title)
DATA += (OUT_OF_MEMORY.detail, OUT_OF_MEMORY.hint, "Serving it.", "A warning.", "model.gguf")
"""Names, and sentences that the supervisor has written."""
FIGURES = re.compile(
    r"\d+ [A-Z][a-z]+( \d{4})?(, [\d:]+)?( UTC)?|\d[\d.]* ?(ms|[smhd]|[KMG]iB|B|tokens/s)\b|\bUTC\b|\w+day\b"
)


class Pseudo(trans_real.DjangoTranslation):
    """A language in which every message of the catalogue stands between ⟦ and ⟧."""

    def __init__(self):
        super().__init__("en")

    def gettext(self, message):
        return f"⟦{message}⟧"

    def ngettext(self, one, many, count):
        return f"⟦{one if count == 1 else many}⟧"


@pytest.fixture
def pseudo(monkeypatch):
    monkeypatch.setitem(trans_real._translations, "art", Pseudo())
    with translation.override("art"):
        yield


class Said(HTMLParser):
    """Collects what a page says and the catalogue has not said."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self._depth = self._silent = 0
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self._silent += tag in SILENT
        for name, value in attributes:
            if name in READ and value:
                self._take(value)

    def handle_endtag(self, tag):
        self._silent -= tag in SILENT

    def handle_data(self, data):
        if not self._silent:
            self._take(data)

    def _take(self, text):
        outside = ""
        for part in re.split("([⟦⟧])", text):
            self._depth += (part == "⟦") - (part == "⟧")
            outside += part if not self._depth and part not in "⟦⟧" else " "
        for datum in sorted(DATA, key=len, reverse=True):
            outside = outside.replace(datum, " ")
        if re.search(r"[A-Za-z]{2}", FIGURES.sub(" ", outside)):
            self.found.append(" ".join(text.split()))


@pytest.fixture
def furnished():
    """A server that is down and one that is well, with an incident of which a channel was told."""
    down, well = make_server("alpha"), make_server("beta")
    make_state(
        down,
        Status.ERROR,
        detail=f"{OUT_OF_MEMORY.title}: {OUT_OF_MEMORY.detail}",
        failure=OUT_OF_MEMORY.as_json(),
        started_at=None,
        retries=5,
    )
    make_state(
        well, Status.READY, detail="Serving it.", warnings=["A warning."], started_at=long_ago(), pid=7
    )
    make_run(down, failure_kind="out_of_memory", failure_title=OUT_OF_MEMORY.title)
    incident = Incident.objects.create(
        server=down,
        opened_at=at(STARTED),
        worst="error",
        failure=OUT_OF_MEMORY.as_json(),
        failure_kind="out_of_memory",
    )
    channel = AlertChannel.objects.create(name="ops-chat", url="https://example.org/hook")
    for state in Delivery.State:
        Delivery.objects.create(
            channel=channel, incident=incident, event=state.value, alert={}, state=state.value
        )


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ("<p>Plain</p>", ["Plain"]),
        ("<p>⟦Said ⟦twice⟧ <b>with a tag⟧</b> alpha 5.1 GiB</p>", []),
        ('<p title="Plain">⟦Said⟧</p>', ["Plain"]),
    ],
)
def test_the_scan_of_a_page_finds_what_no_catalogue_said(html, found):
    assert Said(html).found == found


PAGES = ["/", "/alerts/", "/alerts/?server=beta", "/servers/alpha/availability", "/nowhere", "/login/used/"]
PAGES += ["/requests/usage/", "/servers/alpha/runs/", "/audit/"]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_says_nothing_that_cannot_be_translated(furnished, staff_client, pseudo, path):
    html = staff_client.get(path).content.decode()
    assert "⟦" in html
    assert Said(html).found == []


def test_the_pages_of_errors_and_of_a_first_login_are_translated(client, pseudo):
    token = new_login_token()
    pages = [client.get("/"), client.post("/servers/x/start"), client.get(f"/login/{token}/")]
    client.post(f"/login/{token}/")
    pages += [client.get("/", headers={"Host": "evil.example"})]
    assert [Said(page.content.decode()).found for page in pages] == [[]] * len(pages)


def test_the_items_of_the_palette_are_translated(furnished, staff_client, pseudo):
    items = staff_client.get("/palette").json()["items"]
    said = [item[key] for item in items for key in ("label", "hint", "verb", "ask", "said") if item.get(key)]
    plain = [text for text in said if "⟦" not in text]
    assert plain == ["alpha", "beta"]


def test_a_number_goes_with_its_noun_in_the_plural_of_the_language(furnished, staff_client, pseudo):
    Delivery.objects.update(state="sent")
    assert "⟦3 messages sent⟧" in staff_client.get("/alerts/").content.decode()


def catalogue(messages):
    """Return a .mo file, as `msgfmt` writes it (https://www.gnu.org/software/gettext/manual/html_node/MO-Files.html)."""
    pairs = sorted(
        {"": "Content-Type: text/plain; charset=UTF-8\n", **messages}.items(),
        key=lambda pair: pair[0].encode(),
    )
    texts, places = b"", {0: [], 1: []}
    begin = 28 + 16 * len(pairs)
    for column in (0, 1):
        for pair in pairs:
            text = pair[column].encode()
            places[column] += [len(text), begin + len(texts)]
            texts += text + b"\0"
    head = [0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, begin]
    return struct.pack(f"<{7 + 4 * len(pairs)}I", *head, *places[0], *places[1]) + texts


def test_a_compiled_catalogue_is_all_that_a_language_needs(client, settings, tmp_path):
    compiled = tmp_path / "eo" / "LC_MESSAGES" / "django.mo"
    compiled.parent.mkdir(parents=True)
    compiled.write_bytes(catalogue({"Nothing is down.": "Nenio kaduka.", "Alerts": "Avertoj"}))
    settings.LOCALE_PATHS = [tmp_path]
    with translation.override("eo"):
        html = client.get("/alerts/").content.decode()
    assert '<html lang="eo">' in html
    assert "Nenio kaduka." in html
    assert "<h1>Avertoj</h1>" in html
