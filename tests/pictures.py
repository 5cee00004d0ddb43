"""Pictures of the pages for the documentation: `python -m tests.pictures` writes `docs/pictures/` anew.

`python -m tests.pictures DIRECTORY` writes there what a change should be looked at in: every scene, wide and on a
phone, light and dark.
"""

from __future__ import annotations

import base64
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from playwright.sync_api import sync_playwright

from tests.acceptance.children import MANAGE, environment, listens, wait_for
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

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
RENEW = "UPDATE supervisor_app_nodelease SET renewed_at = strftime('%Y-%m-%d %H:%M:%f', 'now', '+10 seconds')"
QUALITY, MOST_BYTES = 82, 150_000
SCENES = ("empty", "one", "three", "60")
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
IN_DOCS = {"width": 1000, "height": 700}
LOGIN = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.create_user("ada", is_staff=True))
print(client.cookies["sessionid"].value)
"""


class Pages(NamedTuple):
    """Pages that are served: their address, the session of a member of the staff, the database."""

    url: str
    session: str
    database: Path

    def renew(self) -> None:
        """Hold the leases of all nodes for a moment longer, which no supervisor does."""
        with closing(sqlite3.connect(self.database, timeout=30)) as database, database:
            database.execute(RENEW)


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
            yield Pages(f"http://127.0.0.1:{port}", login.stdout.strip(), database)
        finally:
            web.terminate()
            web.wait()


def take(browser: Browser, pages: Pages, page: str, path: Path, scale: float = 1, **options: Any) -> None:
    """Write a picture of a page, as WebP where the path says so: a third of what a PNG needs."""
    context = browser.new_context(device_scale_factor=scale, **options)
    if page != "/":
        context.add_cookies([{"name": "sessionid", "value": pages.session, "url": pages.url}])
    pages.renew()
    tab = context.new_page()
    tab.goto(pages.url + page)
    tab.wait_for_selector("#connection[data-state=live]")
    if path.suffix == ".webp":
        how = {"format": "webp", "quality": QUALITY}
        shot = context.new_cdp_session(tab).send("Page.captureScreenshot", how)
        path.write_bytes(base64.b64decode(shot["data"]))
    else:
        tab.screenshot(path=path)
    context.close()
    print(f"{path} {path.stat().st_size / 1000:.0f} kB")


def for_docs(browser: Browser) -> None:
    PICTURES.mkdir(exist_ok=True)
    with pages_of("three") as pages:
        for scheme in ("light", "dark"):
            path = PICTURES / f"readme-{scheme}.webp"
            take(browser, pages, "/", path, scale=1.72, viewport=IN_DOCS, color_scheme=scheme)
        for name, page in PAGES.items():
            take(browser, pages, page, PICTURES / f"{name}.webp", scale=1.5, viewport=IN_DOCS)
    heavy = [path.name for path in PICTURES.iterdir() if path.stat().st_size > MOST_BYTES]
    if heavy:
        raise SystemExit(f"Above {MOST_BYTES // 1000} kB: {', '.join(heavy)}")


def for_a_look(browser: Browser, directory: Path) -> None:
    for scene in SCENES:
        with pages_of(scene) as pages:
            for scheme in ("light", "dark"):
                for name, size in (("wide", WIDE), ("phone", PHONE)):
                    path = directory / f"{scene}-{name}-{scheme}.png"
                    take(browser, pages, "/", path, viewport=size, color_scheme=scheme)


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
