"""Pictures of the pages for the documentation: `python -m tests.pictures` writes `docs/pictures/` anew.

`python -m tests.pictures DIRECTORY` writes there what a change should be looked at in: every scene and every page,
wide and on a phone, light and dark.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.request import urlopen

from playwright.sync_api import sync_playwright

from tests.acceptance.children import MANAGE, environment, listens, wait_for
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
SERVER = "/servers/gemma-3-12b"
PAGES = {
    "now": f"{SERVER}/",
    "log": f"{SERVER}/log/",
    "requests": "/requests/",
    "history": f"{SERVER}/runs/",
    "availability": f"{SERVER}/availability",
    "alerts": "/alerts/",
}
"""Pages of the documentation, as staff see them, by the name of the picture."""
OF_PEOPLE = {
    "keys": "/keys/",
    "key": "/keys/1/#may-title",
    "users": "/users/",
    "audit": "/audit/",
    "maintenance": "/servers/gpt-oss-20b-mxfp4/",
    "channels": "/alerts/channels/",
    "status": "/status/",
    "status-servers": "/status/servers/",
    "config": f"{SERVER}/config/",
    "models": "/models/",
    "playground": "/playground/",
}
"""The same, after planned work and acts of people."""
LATER = "strftime('%Y-%m-%d %H:%M:%f', 'now', '+10 seconds')"
RENEWED = (
    f"UPDATE supervisor_app_nodelease SET renewed_at = {LATER}",
    f"UPDATE traffic_gatewaysight SET seen_at = {LATER}",
)
FOR_STRANGERS = ("/", "/status/")
BADGE = "/status/Chat.svg"
ANY_ORIGIN = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"}
QUALITY, MOST_BYTES = 82, 150_000
SCENES = ("empty", "one", "three", "60")
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
IN_DOCS = {"width": 1000, "height": 700}
LOGIN = """
from django.contrib.auth.models import Group, User
from django.test import Client
client = Client()
ada = User.objects.create_user("ada", password="of-them-all")
ada.groups.add(Group.objects.get(name="admin"))
client.force_login(ada)
print(client.cookies["sessionid"].value)
"""


QUESTION = "When may a request be sent again?"
ANSWER = """When asking twice does no more than asking once. llamaproxy tells two cases apart:

- **No content has come yet**: it asks another process, and you only see a pause.
- **Some content has come**: your client gets an error event, never half an answer as a whole one.

```python
stream = client.chat.completions.create(model="gemma-3-12b", messages=messages, stream=True)
```
"""
COST = {
    "usage": {"prompt_tokens": 412, "completion_tokens": 94},
    "timings": {"predicted_n": 94, "predicted_per_second": 41.3},
}


class Pages(NamedTuple):
    """Pages that are served: their address, the session of a member of the staff, the database."""

    url: str
    session: str
    database: Path
    env: dict[str, str]

    def draw(self, module: str, *arguments: str) -> None:
        """Write more rows."""
        command = [sys.executable, "-m", module, *arguments]
        subprocess.run(command, env=self.env, cwd=MANAGE.parent, check=True)

    def renew(self) -> None:
        """Let supervisors and a gateway be seen for a moment longer, which do not run."""
        with closing(sqlite3.connect(self.database, timeout=30)) as database, database:
            for statement in RENEWED:
                database.execute(statement)


@contextmanager
def pages_of(scene: str) -> Iterator[Pages]:
    """Serve the pages of a scene."""
    with tempfile.TemporaryDirectory(prefix="pictures-") as directory:
        # The logs of this node lie here; those of another would be asked of its supervisor.
        env, port = environment(LLAMAPROXY_DATA_DIR=f"{directory}/var", LLAMAPROXY_NODE="gpu-1"), free_port()
        for command in (
            [str(MANAGE), "migrate", "--verbosity", "0"],
            ["-m", "tests.scenes", scene],
            *([["-m", "tests.scene_details", "gemma-3-12b"]] if scene == "three" else []),
        ):
            subprocess.run([sys.executable, *command], env=env, cwd=MANAGE.parent, check=True)
        shell = [sys.executable, str(MANAGE), "shell", "--verbosity", "0", "--command", LOGIN]
        login = subprocess.run(shell, env=env, cwd=MANAGE.parent, check=True, capture_output=True, text=True)
        where = ["-b", "127.0.0.1", "-p", str(port), "llamaproxy.asgi:application"]
        web = subprocess.Popen(
            [sys.executable, "-m", "daphne", *where],
            env=env,
            cwd=MANAGE.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for("the pages are served", lambda: listens(port), lambda: scene)
            database = Path(directory, "var", "db.sqlite3")
            yield Pages(f"http://127.0.0.1:{port}", login.stdout.strip(), database, env)
        finally:
            web.terminate()
            web.wait()


def take(browser: Browser, pages: Pages, page: str, path: Path, scale: float = 1, **options: Any) -> None:
    """Write a picture of a page, as WebP where the path says so: a third of what a PNG needs."""
    context = browser.new_context(device_scale_factor=scale, **options)
    if page not in FOR_STRANGERS:
        context.add_cookies([{"name": "sessionid", "value": pages.session, "url": pages.url}])
    pages.renew()
    _be_the_gateway(context)
    tab = context.new_page()
    tab.goto(pages.url + page)
    if page != "/status/":  # which has no socket
        tab.wait_for_selector("#connection[data-state=live]")
    if page == "/playground/":
        tab.get_by_label("Your message").fill(QUESTION)
        tab.keyboard.press("Enter")
        tab.get_by_text("94 tokens").wait_for()
    if path.suffix == ".webp":
        how = {"format": "webp", "quality": QUALITY}
        shot = context.new_cdp_session(tab).send("Page.captureScreenshot", how)
        path.write_bytes(base64.b64decode(shot["data"]))
    else:
        tab.screenshot(path=path, full_page=True)
    context.close()
    print(f"{path} {path.stat().st_size / 1000:.0f} kB")


def _be_the_gateway(context: BrowserContext) -> None:
    """Answer for a gateway, which does not run: its models, and one question."""
    models = {"object": "list", "data": [{"id": "gemma-3-12b", "object": "model"}]}
    context.route("**/v1/models", lambda route: route.fulfill(json=models, headers=ANY_ORIGIN))
    pieces = [{"choices": [{"delta": {"content": ANSWER}}]}, COST]
    events = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"
    context.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(body=events, content_type="text/event-stream", headers=ANY_ORIGIN),
    )


def for_docs(browser: Browser) -> None:
    PICTURES.mkdir(exist_ok=True)
    with pages_of("three") as pages:
        for scheme in ("light", "dark"):
            path = PICTURES / f"readme-{scheme}.webp"
            take(browser, pages, "/", path, scale=1.72, viewport=IN_DOCS, color_scheme=scheme)
        for name, page in PAGES.items():
            take(browser, pages, page, PICTURES / f"{name}.webp", scale=1.5, viewport=IN_DOCS)
        pages.draw("tests.scene_people")
        for name, page in OF_PEOPLE.items():
            take(browser, pages, page, PICTURES / f"{name}.webp", scale=1.5, viewport=IN_DOCS)
        with urlopen(f"{pages.url}{BADGE}") as answer:
            (PICTURES / "badge.svg").write_bytes(answer.read())
    heavy = [path.name for path in PICTURES.iterdir() if path.stat().st_size > MOST_BYTES]
    if heavy:
        raise SystemExit(f"Above {MOST_BYTES // 1000} kB: {', '.join(heavy)}")


def for_a_look(browser: Browser, directory: Path) -> None:
    for scene in SCENES:
        with pages_of(scene) as pages:
            take_all_ways(browser, pages, "/", directory / scene)
            if scene == "three":
                pages.draw("tests.scene_people")
                for name, page in (PAGES | OF_PEOPLE).items():
                    take_all_ways(browser, pages, page, directory / name)


def take_all_ways(browser: Browser, pages: Pages, page: str, stem: Path) -> None:
    """Take pictures of a whole page, wide and on a phone, light and dark."""
    for scheme in ("light", "dark"):
        for name, size in (("wide", WIDE), ("phone", PHONE)):
            path = stem.with_name(f"{stem.name}-{name}-{scheme}.png")
            take(browser, pages, page, path, viewport=size, color_scheme=scheme)


def main(directory: str = "") -> None:
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=arguments)
        if directory:
            for_a_look(browser, Path(directory))
        else:
            for_docs(browser)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
