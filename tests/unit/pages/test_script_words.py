"""Texts that scripts show come from the page, where gettext reaches them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supervisor_app.pages.presenters.script_words import log_words, script_words

SCRIPTS = Path(__file__).parents[3] / "static" / "supervisor" / "js"
COMMENT = re.compile(r"/\*.*?\*/|(?<![:\"'`])//[^\n]*", re.DOTALL)
LITERAL = re.compile(r"\"((?:[^\"\\\n]|\\.)*)\"|`((?:[^`\\]|\\.)*)`")
PLACE = re.compile(r"\$\{(?:[^{}]|\{[^{}]*\})*\}")
PHRASE = re.compile(r"[A-Za-z]{2,}[,.:;]? [A-Za-z]{2,}|^ ?[A-Z][a-z]+ ?[.:?!]?$|^ ?[a-z]{3,} | [a-z]{3,} ?$")
OF_THE_PLATFORM = re.compile(
    r"[#>\[\]@*]|:has|^\(prefers|^(?:noopener|Bearer|Authorization|Accept|Content-Type|input, )|system-ui|sans-serif"
    r"|^(?:notify |notified |Notification$)|llamaproxy$|^(?:Arrow(?:Up|Down|Left|Right)|Home|End|Enter|Escape|AbortError|Ctrl)$"
)
"""Selectors, headers, fonts, names: of keys, of errors, of what a browser keeps, our own."""
PROGRAMS = {"copies.js"}
"""Scripts that write programs."""


def phrases_in(source: str) -> list[str]:
    """Return the literals of a script that people would read."""
    found = []
    for literal in LITERAL.findall(COMMENT.sub("", source)):
        text = PLACE.sub("", literal[0] or literal[1])
        if PHRASE.search(text) and not OF_THE_PLATFORM.search(text):
            found.append(text)
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('say(e, "Line copied.");', ["Line copied."]),
        ("say(e, `${count} new lines`);", [" new lines"]),
        ("say(e, `run ${run}`);", ["run "]),
        ('say(e, words.copied); // "Line copied."', []),
        ('document.querySelector("#lines > .line"); event.key === "ArrowUp";', []),
        ('fetch(url, { headers: { Accept: "application/json" } });', []),
    ],
)
def test_the_scan_finds_what_people_would_read(source, found):
    assert phrases_in(source) == found


@pytest.mark.parametrize(
    "path",
    sorted(path for path in SCRIPTS.rglob("*.js") if path.name not in PROGRAMS),
    ids=lambda path: path.name,
)
def test_a_script_has_no_text_of_its_own(path):
    assert phrases_in(path.read_text()) == []


def test_the_texts_have_the_places_that_their_scripts_fill():
    assert log_words()["news"]["one"] == "{count} new line ↓"
    assert log_words()["news"]["other"] == "{count} new lines ↓"
    assert set(re.findall(r"{\w+}", log_words()["startedBuild"])) == {"{run}", "{at}", "{build}"}
    assert script_words()["ask"] == "{verb} {name}?"
