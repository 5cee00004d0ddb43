"""Pictures of the pages for the documentation: `python -m tests.pictures` writes `docs/screenshot-*.png` anew.

`python -m tests.pictures DIRECTORY` writes there what a change should be looked at in: every scene, wide and on a
phone, light and dark.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

from tests.acceptance.children import MANAGE, environment, listens, wait_for
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

DOCS = Path(__file__).parents[1] / "docs"
SCENES = ("empty", "one", "three", "60")
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@contextmanager
def pages_of(scene: str) -> Iterator[str]:
    """Serve the pages of a scene, whose address this yields."""
    with tempfile.TemporaryDirectory(prefix="pictures-") as directory:
        env, port = environment(LLAMAPROXY_DATA_DIR=f"{directory}/var"), free_port()
        for command in (
            [str(MANAGE), "migrate", "--verbosity", "0"],
            ["-m", "tests.scenes", scene],
        ):
            subprocess.run([sys.executable, *command], env=env, cwd=MANAGE.parent, check=True)
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
            yield f"http://127.0.0.1:{port}/"
        finally:
            web.terminate()
            web.wait()


def take(browser: Browser, url: str, path: Path, scheme: str, size: dict[str, int], scale: float = 1) -> None:
    context = browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=scale)
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#connection[data-state=live]")
    page.screenshot(path=path)
    context.close()
    print(path)


def main(directory: str = "") -> None:
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=arguments)
        for scene in SCENES if directory else ("three",):
            with pages_of(scene) as url:
                for scheme in ("light", "dark"):
                    if directory:
                        for name, size in (("wide", WIDE), ("phone", PHONE)):
                            take(browser, url, Path(directory, f"{scene}-{name}-{scheme}.png"), scheme, size)
                    else:
                        size = {"width": 1000, "height": 700}
                        take(browser, url, DOCS / f"screenshot-{scheme}.png", scheme, size, 1.72)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
