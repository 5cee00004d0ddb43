"""One alert to one address: what arrives, what goes wrong, what is kept secret."""

from __future__ import annotations

import logging
from email import message_from_string
from email.header import decode_header, make_header
from urllib.parse import urlsplit

import pytest
import requests

from supervisor_app.alerts import transport
from supervisor_app.alerts.rules import AlertEvent, Incident, write
from supervisor_app.alerts.transport import ID_HEADER, BadAddressError, SendError, check, mask, send
from supervisor_app.core.status import LlamaStatus, Status
from tests.integration.building import OUT_OF_MEMORY, STARTED
from tests.integration.receiving import mail_server
from tests.ports import free_port

SLACK = "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
DISCORD = "https://discord.com/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"


def alert(event=AlertEvent.CRASHED, status=Status.CRASHED):
    snapshot = LlamaStatus(name="default", status=status, detail="Out of memory. Retry 2 of 5 after 4 s.")
    incident = Incident(
        opened_at=STARTED, failure=OUT_OF_MEMORY, worst=Status.CRASHED, recovered_at=STARTED + 130
    )
    return write(event, incident, snapshot, number=1, node="local", now=STARTED).as_json()


# --- Addresses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/hook",
        "http://user:password@10.0.0.1:8080/",
        SLACK,
        DISCORD,
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        "ntfy://topic",
        "ntfys://user:password@ntfy.example.org/topic",
        "https://ntfy.sh/topic",
        "mailtos://user:password@smtp.example.org:587?from=a@example.org&to=b@example.org",
    ],
)
def test_a_good_address(url):
    check(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org/secret",
        "https://",
        "https:///secret",
        "https://exa mple.org/secret",
        "https://[::1/secret",
        "https://example.org:0/secret",
        "https://example.org:secret/",
        "nosuch://secret",
        "slack://secret",
        "file:///etc/secret",
    ],
)
def test_a_bad_address_is_told_without_repeating_it(url):
    with pytest.raises(BadAddressError) as raised:
        check(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (SLACK, "https://hooks.slack.com/…"),
        ("https://user:password@example.org:8443/token", "https://example.org/…"),
        ("slack://token/token/token", "slack://…"),
        ("mailtos://user:password@example.org", "mailtos://…"),
        ("https://[::1/secret", "https:///…"),
        ("example.org/secret", "…"),
        ("example.org/secret://x", "…"),
    ],
)
def test_the_secret_of_an_address_is_masked(url, shown):
    assert mask(url) == shown


# --- Our webhook ---------------------------------------------------------------------------------------


def test_a_webhook_gets_the_alert_as_json(hook):
    send(hook.url, alert(), "42")
    (post,) = hook.posts
    assert post.path == "/hook/top-secret"
    assert post.json == alert()
    assert post.headers["Content-Type"] == "application/json"
    assert post.headers[ID_HEADER] == "42"


@pytest.mark.parametrize(
    ("status", "said"), [(500, "It answered 500"), (404, "It answered 404"), (302, "It answered 302")]
)
def test_a_webhook_that_does_not_take_a_message_is_an_error(status, said, hook):
    hook.answers = [status]
    with pytest.raises(SendError, match=said):
        send(hook.url, alert())
    assert len(hook.posts) == 1, "a redirect is not followed"


def test_a_webhook_that_hangs(hook, monkeypatch):
    monkeypatch.setattr(transport, "ANSWER_SECONDS", 0.1)
    hook.answers = [0]
    with pytest.raises(SendError, match=r"No answer within 0\.1 s\."):
        send(hook.url, alert())


def test_a_webhook_that_cannot_be_connected_to(monkeypatch):
    def slow(*args, **kwargs):
        raise requests.ConnectTimeout

    monkeypatch.setattr(requests, "post", slow)
    with pytest.raises(SendError, match=r"No connection within 5 s\."):
        send("https://example.org/", alert())


def test_nobody_there_is_told_without_what_is_secret_in_the_address():
    with pytest.raises(SendError) as raised:
        send(f"http://user:pass%20word@127.0.0.1:{free_port()}/top-secret/x?key=hidden-too", alert())
    said = str(raised.value)
    assert "Connection refused" in said
    assert "127.0.0.1" in said
    for secret in ("top-secret", "pass%20word", "pass word", "hidden-too"):
        assert secret not in said


# --- Apprise's services --------------------------------------------------------------------------------


@pytest.fixture
def redirected(hook, monkeypatch):
    """Let what goes to somebody's well-known host arrive here."""
    real = requests.Session.send

    def here(session, request, **kwargs):
        there, base = urlsplit(request.url), urlsplit(hook.url)
        request.headers["X-There"] = there.hostname
        request.url = there._replace(scheme="http", netloc=base.netloc).geturl()
        return real(session, request, **kwargs)

    monkeypatch.setattr(requests.Session, "send", here)
    return hook


@pytest.mark.parametrize(
    ("url", "host"),
    [(SLACK, "hooks.slack.com"), (DISCORD, "discord.com"), ("https://ntfy.sh/topic", "ntfy.sh")],
)
def test_a_chat_gets_title_and_text_in_its_own_form(url, host, redirected):
    send(url, alert())
    (post,) = redirected.posts
    assert post.headers["X-There"] == host
    assert "default is down" in post.body.decode()
    assert "Retry 2 of 5 after 4 s." in post.body.decode()
    assert "github" not in post.body.decode(), "no pictures from elsewhere"


def test_a_chat_that_refuses_is_told_with_its_reason(redirected):
    redirected.answers = [403]
    with pytest.raises(SendError, match="403") as raised:
        send(SLACK, alert())
    assert "TIiajkdnlazkcOXrIdevi7FQ" not in str(raised.value)


def test_a_chat_that_cannot_be_reached_says_why(caplog, capsys):
    with pytest.raises(SendError, match="refused") as raised:
        send(f"ntfy://user:hunter22@127.0.0.1:{free_port()}/my-topic", alert())
    assert "hunter22" not in str(raised.value)
    assert "my-topic" not in str(raised.value)
    assert "hunter22" not in caplog.text + "".join(capsys.readouterr())


def test_a_service_that_says_nothing_is_told_as_that(monkeypatch):
    monkeypatch.setattr("apprise.plugins.ntfy.NotifyNtfy.send", lambda *args, **kwargs: False)
    with pytest.raises(SendError, match="ntfy did not take it and did not say why"):
        send("ntfy://127.0.0.1/topic", alert())


def test_a_service_that_breaks_is_a_failed_try(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("boom at my-topic")

    monkeypatch.setattr("apprise.Apprise.notify", broken)
    with pytest.raises(SendError, match=r"RuntimeError: boom at \[redacted\]"):
        send("ntfy://127.0.0.1/my-topic", alert())


def test_apprise_writes_nothing_to_the_console():
    with pytest.raises(SendError):
        send(f"ntfy://127.0.0.1:{free_port()}/topic", alert())
    assert not logging.getLogger("apprise").propagate


def test_a_mail_arrives():
    with mail_server() as mailbox:
        send(
            f"mailto://127.0.0.1:{mailbox.port}/?from=llama@example.org&to=me@example.org",
            alert(AlertEvent.RECOVERED, Status.READY),
        )
    (mail,) = map(message_from_string, mailbox.mails)
    assert str(make_header(decode_header(mail["Subject"]))) == "default is up again"
    assert mail["To"] == "me@example.org"
    bodies = [part.get_payload(decode=True).decode() for part in mail.walk() if not part.is_multipart()]
    assert any("default is up again after 2 m 10 s." in body for body in bodies)
