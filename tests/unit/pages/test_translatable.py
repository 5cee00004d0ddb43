"""The text of templates can be translated: what people read is inside of gettext's tags."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOR_DEVELOPERS = {"supervisor/styleguide.html"}
TEMPLATES = {
    name: path
    for path in sorted((ROOT / "templates").rglob("*.html"))
    if (name := str(path.relative_to(ROOT / "templates"))) not in FOR_DEVELOPERS
}
READ = {"alt", "aria-label", "aria-description", "hx-confirm", "placeholder", "title"}
"""Attributes that people read or hear. Those of `data-` are, too, where they hold more than a word."""
NAMES = re.compile(r"llamaproxy|llama-server|Ctrl|UTC|hx-ext=.*ws-connect=")
TRANSLATED = re.compile(r"{%-?\s*blocktranslate.*?{%\s*endblocktranslate\s*%}", re.DOTALL)
COMMENT = re.compile(r"{#.*?#}|{%\s*comment.*?endcomment\s*%}", re.DOTALL)
TAG = re.compile(r"{%.*?%}|{{.*?}}", re.DOTALL)
FILTERS_OF_WORDS = re.compile(r"\|(?:default|default_if_none|yesno|pluralize):\"[^\"]*[A-Za-z]{2}")
SPOKEN_TO_INCLUDE = re.compile(r"\b(?:action|caption|here|label|section|text|title|word)=\"[^\"]*[A-Za-z]{2}")


class Spoken(HTMLParser):
    """Collects the literal text of a template that people would read."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._mute = 0
        for tag in TAG.findall(TRANSLATED.sub("", source)):
            if FILTERS_OF_WORDS.search(tag) or ("include" in tag and SPOKEN_TO_INCLUDE.search(tag)):
                self.found.append(tag)
        self.feed(TAG.sub("", TRANSLATED.sub("", COMMENT.sub("", source))))

    def handle_starttag(self, tag, attributes):
        self._mute += tag in ("code", "kbd", "script", "style")
        for name, value in attributes:
            is_read = name in READ or (name.startswith("data-") and " " in (value or "").strip())
            if is_read and is_spoken(value or ""):
                self.found.append(f'{name}="{value}"')

    def handle_endtag(self, tag):
        self._mute -= tag in ("code", "kbd", "script", "style")

    def handle_data(self, data):
        if not self._mute and is_spoken(data):
            self.found.append(" ".join(data.split()))


def is_spoken(text: str) -> bool:
    return re.search(r"[A-Za-z]{2}", NAMES.sub("", text)) is not None


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("<p>Hello</p>", ["Hello"]),
        ('<p>{% translate "Hello" %}</p>', []),
        ("<p>{% blocktranslate trimmed %}Hello <b>you</b>{% endblocktranslate %}</p>", []),
        ('<button title="Go on">→</button>', ['title="Go on"']),
        ("<p title=\"{% translate 'Go on' %}\">{{ name }} · 3</p>", []),
        ("{# Said to nobody #}<code>manage.py</code><b>llamaproxy</b>", []),
        ('{{ name|default:"no name" }}', ['{{ name|default:"no name" }}']),
        ('{{ name|default:_("no name") }}', []),
        ('{% include "a.html" with title="None yet" %}', ['{% include "a.html" with title="None yet" %}']),
    ],
)
def test_the_scan_finds_text_outside_of_the_tags(source, found):
    assert Spoken(source).found == found


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_has_no_text_that_cannot_be_translated(name):
    assert Spoken(TEMPLATES[name].read_text()).found == []
