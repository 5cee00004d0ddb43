"""The playground in a browser: an answer as it comes, its copies, a crash, and a load test through a crash."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import psutil
import pytest

from supervisor_app.engine import launcher
from tests.acceptance.browsing import Tabs, badge, chromium, expect, tabs
from tests.acceptance.children import wait_for
from tests.acceptance.conftest import ENGINE_ARGS
from tests.acceptance.drawn import complaints_of_axe
from tests.acceptance.gateway.conftest import make_keys
from tests.ports import free_port

__all__ = ["Tabs", "chromium", "tabs"]
pytestmark = pytest.mark.browser

FAST, SLOW = "fast", "slow"
"""A server of which somebody has time to interrupt an answer: 20 tokens/s."""


@pytest.fixture(scope="module")
def playing(make_shared, model):
    """A model of the real engine, and a slow one."""
    proxy = make_shared(
        llama_model_path=str(model), llama_server_args=[*ENGINE_ARGS, "-a", FAST], retry_backoff_ms=500
    )
    real = shutil.which("llama-server") or f"{sys.executable} -I {launcher.__file__}"
    proxy.configure(llama_server_binary=str(proxy.write_script(real)))
    slow = {
        "port": free_port(),
        "args": ["--fake-token-seconds", "0.05", "-a", SLOW],
        "model_path": str(model),
    }
    proxy.server(SLOW, host="127.0.0.1", **slow)
    proxy.start().wait_for_status("ready")
    proxy.wait_for(f"{SLOW} is ready", lambda: pid_of(proxy, SLOW))
    proxy.cookies = [
        {"name": name, "value": value, "url": proxy.url}
        for name, value in proxy.login("player").cookies.items()
    ]
    return proxy


def pid_of(proxy, name):
    """The pid of a server that is ready; None: it is not."""
    status = proxy.get(f"/api/servers/{name}/").json()
    return status["pid"] if status["status"] == "ready" else None


def kill(proxy, name):
    pid = proxy.wait_for(f"{name} is ready", lambda: pid_of(proxy, name))
    psutil.Process(pid).kill()


@pytest.fixture
def play(playing, tabs):
    """The page as a member of the staff has it, once it knows the models."""
    context = tabs.context(permissions=["clipboard-read", "clipboard-write"])
    context.add_cookies(playing.cookies)
    page = tabs.open(f"{playing.url}/playground/", context)
    expect(badge(page)).to_have_text("live")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    choose(page, FAST)
    return page


def choose(page, model):
    page.locator("[data-pane]").first.get_by_label("Model").select_option(model)


def limit(page, tokens, **settings):
    page.get_by_text("Sampling and system prompt").click()
    for name, value in {"Most tokens": tokens, **settings}.items():
        page.locator("#ask").get_by_label(name).fill(value)


def ask(page, text="Tell me of llamas."):
    page.get_by_label("Your message").fill(text)
    page.keyboard.press("Enter")


def ask_for_long(page):
    """Ask for an answer of two minutes, and wait until its first words are there."""
    choose(page, SLOW)
    limit(page, "2400")
    ask(page)
    expect(answers(page).locator(".prose")).to_contain_text(re.compile(r"\w+ \w+"))


def answers(page):
    return page.locator("[data-role=assistant]")


def is_whole(page):
    return expect(page.get_by_role("button", name="Send")).to_be_visible()


def copied(page, name):
    page.evaluate("navigator.clipboard.writeText('nothing yet')")
    page.get_by_role("button", name=name).click()
    expect(page.get_by_text("Copied.").last).to_be_visible()
    return wait_for("it is copied", lambda: in_clipboard(page))


def in_clipboard(page):
    text = page.evaluate("navigator.clipboard.readText()")
    return "" if text == "nothing yet" else text


def test_an_answer_comes_with_what_it_cost_and_is_there_after_a_reload(play):
    limit(play, "20")
    ask(play)
    is_whole(play)
    expect(play.get_by_text(re.compile(r"first token .* tokens/s · 20 tokens"))).to_be_visible()
    text = answers(play).inner_text()
    assert complaints_of_axe(play) == []
    play.reload()
    assert answers(play).inner_text() == text
    play.get_by_role("button", name="New").click()
    expect(answers(play)).to_have_count(0)


def test_two_models_answer_side_by_side(play):
    play.get_by_label("Two models side by side").check()
    limit(play, "10")
    ask(play)
    is_whole(play)
    expect(answers(play)).to_have_count(2)
    play.get_by_role("button", name="Ask again").click()
    is_whole(play)
    expect(answers(play)).to_have_count(2)


def test_an_answer_can_be_stopped(play):
    ask_for_long(play)
    play.get_by_role("button", name="Stop", exact=True).click()
    is_whole(play)
    expect(answers(play)).to_contain_text("Stopped.")


def test_an_answer_that_a_crash_cuts_off_says_so(play, playing):
    ask_for_long(play)
    kill(playing, SLOW)
    is_whole(play)
    expect(play.locator(".trouble")).to_contain_text(re.compile("died|crash|broke"))


def test_the_text_of_a_model_cannot_run_nor_load_anything(play):
    evil = "<img src=x onerror=alert(1)><script>alert(1)</script>[a](javascript:alert(1)) **bold** <b style=color:red>b</b>"
    drawn = play.evaluate(
        """async text => {
            const {prose} = await import("/static/supervisor/js/playground/prose.js");
            const box = document.createElement("div");
            box.append(prose(text));
            return box.innerHTML;
        }""",
        evil,
    )
    assert "<strong>bold</strong>" in drawn
    assert re.search(r"<[^>]*(img|script|style=|onerror)", drawn) is None


def test_the_copies_ask_the_same_and_work(play, playing):
    tricky = 'Say "it\'s", \\n and $HOME: true?'
    limit(play, "5", Temperature="0")
    ask(play, tricky)
    is_whole(play)
    shell = subprocess.run(
        ["sh", "-c", copied(play, "Copy as curl")], capture_output=True, text=True, check=True
    ).stdout
    assert "data: [DONE]" in shell
    python = subprocess.run(
        [sys.executable, "-c", copied(play, "Copy as Python")], capture_output=True, text=True, check=True
    ).stdout
    streamed = [json.loads(line[6:]) for line in shell.splitlines() if line.startswith("data: {")]
    said = "".join(each["choices"][0]["delta"].get("content") or "" for each in streamed if each["choices"])
    assert python == said != ""
    assert tricky in play.evaluate("sessionStorage.getItem('playground-talk')").encode().decode(
        "unicode_escape"
    )


def test_a_copy_works_where_the_browser_gives_no_clipboard(play):
    ask(play, "Hi")
    is_whole(play)
    play.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    play.get_by_role("button", name="Copy as curl").click()
    expect(play.get_by_text("Copied.")).to_be_visible()
    play.get_by_label("Your message").focus()
    play.keyboard.press("Control+v")
    expect(play.get_by_label("Your message")).to_have_value(re.compile("^curl -N .*chat/completions"))


def test_a_load_test_shows_who_was_held_and_sent_again_by_a_crash(play, playing):
    play.get_by_role("heading", name="Load test").click()
    form = play.locator("#load")
    form.get_by_label("Requests at once").fill("12")
    form.get_by_label("Model").select_option(SLOW)
    form.get_by_role("button", name="Run").click()
    expect(play.locator("#load-sum")).to_have_text("Running…")
    kill(playing, SLOW)
    expect(play.locator("#load-sum")).to_contain_text("/ 12 answered")
    expect(play.locator("#load-bars li")).to_have_count(12)
    expect(
        play.locator("#load-bars small").filter(has_text=re.compile("held|sent again|died")).first
    ).to_be_visible()
    assert complaints_of_axe(play) == []


def test_a_browser_without_a_key_is_given_one(play, playing, tabs):
    tabs.forgiven = "401"
    playing.write("UPDATE auth_user SET is_superuser = 1 WHERE username = 'player'")
    make_keys(playing, {"others": {}})
    play.reload()
    expect(play.locator("#playground-trouble")).to_contain_text("key")
    play.get_by_role("button", name="Make one for 12 hours").click()
    expect(play.get_by_text("This tab has a key.")).to_be_visible()
    expect(play.locator("#playground-trouble")).to_be_hidden()
    limit(play, "5")
    ask(play)
    is_whole(play)
    expect(play.get_by_text(re.compile("5 tokens"))).to_be_visible()
