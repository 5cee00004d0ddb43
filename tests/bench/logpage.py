"""The log page in a real browser, on a log of 100 000 lines: `python -m tests.bench.logpage [--lines 100000]`.

What a reader does: open the page, scroll back until no line is left, go to the end, hold an arrow key, search,
follow a flood. Of each the frames and the long tasks (over 50 ms) of the tab, and afterwards the nodes of its
document and its heap. Beside it the same page while nothing happens: read what is above that.
"""

from __future__ import annotations

import argparse
import os
import shutil
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect, sync_playwright

from tests.bench.logsearch import LINES, NEEDLE, RARE
from tests.pictures import WIDE, Pages, pages_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

SERVER = "gemma-3-12b"
DEADLINE_MS = 60_000
WATCH = """
    window.tasks = [];
    window.frames_ = [];
    new PerformanceObserver((seen) => tasks.push(...seen.getEntries().map((e) => e.duration)))
        .observe({entryTypes: ["longtask"]});
    let last = performance.now();
    const frame = (now) => { frames_.push(now - last); last = now; requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
"""
TAKE = "() => [window.frames_.splice(0), window.tasks.splice(0)]"
CLIMB = """async () => {
    const box = document.getElementById("lines");
    const first = () => box.querySelector("[data-c]").dataset.c;
    const frame = () => new Promise(requestAnimationFrame);
    let top = "", still = 0;
    while (still < 120) {
        box.scrollTop = Math.max(0, box.scrollTop - 900);
        await frame();
        still = first() === top ? still + (box.scrollTop === 0) : 0;
        top = first();
    }
    return box.querySelector(".line > span").textContent;
}"""


def write(path: Path, count: int) -> None:
    """Write as many lines as an engine would, every 1000th of them an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as log:
        for number in range(count):
            text = LINES[number % len(LINES)].format(number % 4, number, number % 997)
            log.write(f"{RARE}\n" if number % 1000 == 999 else f"{stamp(number)} I {text}\n")


def stamp(number: int) -> str:
    """Write the time since the start as the engine does: minutes, seconds, milliseconds, microseconds."""
    return f"{number // 6000}.{number // 100 % 60:02}.{number % 100 * 10:03}.{number % 1000:03}"


def flood(path: Path, megabytes_a_second: int, seconds: float) -> None:
    block = "".join(
        f"9.00.000.000 I flood {LINES[0].format(1, number, 7)}\n" for number in range(1000)
    ).encode()
    began, written = time.monotonic(), 0
    with path.open("ab") as log:
        while (passed := time.monotonic() - began) < seconds:
            if written < passed * megabytes_a_second * 1e6:
                written += log.write(block)
            else:
                time.sleep(0.002)
        log.write(b"9.00.000.000 I after the flood\n")
    print(f"  (flood: {written / 1e6 / seconds:.0f} MB/s for {seconds:.0f} s)")


@contextmanager
def measured(page: Page, what: str) -> Iterator[None]:
    """Print the frames and long tasks of a step, and the tab as it is then."""
    page.evaluate(TAKE)
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    frames, tasks = page.evaluate(TAKE)
    frames.sort()
    told = (
        f"{len(frames):>5} frames, median {middle(frames):>4.0f} ms, 99 % {middle(frames, 0.99):>4.0f} ms, "
    )
    told += f"longest {frames[-1]:>4.0f} ms; {len(tasks):>3} long tasks, {sum(tasks) / 1000:>5.1f} s, "
    print(
        f"{what:<28}{took:>6.1f} s {told}longest {max(tasks, default=0):>4.0f} ms; {size_of(page)}",
        flush=True,
    )


def middle(values: list[float], share: float = 0.5) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def size_of(page: Page) -> str:
    client = page.context.new_cdp_session(page)
    client.send("HeapProfiler.collectGarbage")
    client.send("Performance.enable")
    known = {each["name"]: each["value"] for each in client.send("Performance.getMetrics")["metrics"]}
    client.detach()
    shown = page.evaluate("document.querySelectorAll('*').length")
    return f"{shown} elements, {known['Nodes']:.0f} nodes, heap {known['JSHeapUsedSize'] / 1e6:.0f} MB"


def look(page: Page, pages: Pages, path: Path, options: Any) -> None:
    began = time.monotonic()
    page.goto(f"{pages.url}/servers/{SERVER}/log/")
    last = page.locator(".line").last
    expect(last).to_be_visible()
    print(f"opened in {time.monotonic() - began:.2f} s")
    expect(page.locator("#log-connection")).to_have_text("live")
    with measured(page, "nothing happens"):
        page.wait_for_timeout(3000)
    with measured(page, "scroll back to the begin"):
        first = page.evaluate(CLIMB)
        assert "task 0 " in first, first
    with measured(page, "go to the end"):
        page.locator("#lines").press("End")
        expect(page.locator("#follow")).to_have_attribute("aria-pressed", "true")
        expect(last).to_be_in_viewport()
    with measured(page, "go to the middle, and back"):
        page.locator("#lines").focus()
        for _ in range(12):
            page.evaluate("document.getElementById('lines').scrollTop = 0")
            page.wait_for_timeout(250)
        page.locator("#lines").press("Escape")
    with measured(page, "an arrow key, 300 times"):
        for _ in range(300):
            page.keyboard.press("ArrowUp")
    page.locator("#lines").press("End")
    expect(last).to_be_in_viewport()
    with measured(page, "search: 100 hits"):
        page.locator("#q").fill(NEEDLE)
        expect(page.locator("#searched")).to_contain_text("Searched all")
    with measured(page, "search: each line"):
        page.locator("#q").fill("slot")
        expect(page.locator("#searched")).to_contain_text("lines")
        page.wait_for_timeout(3000)
    page.locator("#q").fill("")
    expect(page.locator("#searched")).to_be_hidden()
    expect(page.locator("#log-connection")).to_have_text("live")
    for speed in options.flood:
        with measured(page, f"flood of {speed} MB/s"):
            writer = threading.Thread(target=flood, args=(path, speed, options.seconds))
            writer.start()
            writer.join()
            page.locator(".line", has_text="after the flood").last.wait_for()
    page.locator("#lines").evaluate("box => box.scrollTop = box.scrollHeight / 2")
    with measured(page, "flood while one reads"):
        writer = threading.Thread(target=flood, args=(path, options.flood[0], options.seconds))
        writer.start()
        writer.join()
        expect(page.locator("#news")).to_be_visible()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--flood", type=int, nargs="+", default=[1, 100], help="MB/s")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each flood")
    options = parser.parse_args()
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    expect.set_options(timeout=DEADLINE_MS)
    with sync_playwright() as playwright, pages_of("three") as pages:
        path = pages.database.parent / "logs" / f"{SERVER}.log"
        write(path, options.lines)
        print(f"{options.lines} lines, {path.stat().st_size / 1e6:.1f} MB; {os.cpu_count()} cores")
        browser = playwright.chromium.launch(executable_path=binary, args=arguments)
        context = browser.new_context(viewport=WIDE)
        context.set_default_timeout(DEADLINE_MS)
        context.add_cookies([{"name": "sessionid", "value": pages.session, "url": pages.url}])
        context.add_init_script(WATCH)
        look(context.new_page(), pages, path, options)
        browser.close()


if __name__ == "__main__":
    main()
