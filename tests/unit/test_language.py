"""The language of docstrings, comments and names of tests: a stranger reads each of them once."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PATHS = [path for room in ("llamaproxy", "supervisor_app") for path in sorted((ROOT / room).rglob("*.py"))]
RIDDLES = frozenset(
    {"and", "as", "at", "before", "but", "by", "during", "for", "from", "how", "however", "if", "in", "its"}
    | {"it", "of", "on", "one", "or", "since", "so", "such", "that", "their", "there", "they", "those", "to"}
    | {"unless", "until", "up", "what", "whatever", "when", "where", "wherever", "whether", "which", "while"}
    | {"who", "whoever", "whom", "whose", "with", "without"}
)
"""Words that begin half a sentence, whose noun or verb is left to the reader."""
NOUNLESS = frozenset(
    {"it", "its", "one", "that", "their", "them", "they", "those", "what", "who", "whoever", "whom", "whose"}
)
"""Words that begin the name of a test and leave the reader to guess of what something is expected."""
ASKING = re.compile(r"(?:^|[.!?] )((?:Who|Whom|What|Whether)\b[^.!?]*)(?![^.!]*\?)")
"""A sentence that begins like a question and asks nothing."""


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """List line and text of every docstring, those below a field or a constant included."""
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield statement.lineno, text.strip()


def comments(source: str) -> Iterator[tuple[int, str]]:
    """List the line and text of every comment; lines that follow each other are one comment."""
    last, text = -1, ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            goes_on = token.start[0] == last + 1 and token.line.strip().startswith("#")
            if text and not goes_on:
                yield last, text
            text = f"{text} {token.string[1:].strip()}" if goes_on else token.string[1:].strip()
            last = token.start[0]
    if text:
        yield last, text


def riddle(text: str) -> str:
    """Return the word that makes a riddle of a docstring; empty for a question or a plain first line."""
    sentence = re.split(r"[.;:]\s", text.partition("\n")[0])[0]
    first = re.match(r"[A-Z][a-z]*\b", sentence)
    is_riddle = first is not None and first[0].lower() in RIDDLES and "?" not in sentence
    return first[0] if first is not None and is_riddle else ""


def asks_nothing(text: str) -> str:
    """Return the first sentence that begins like a question and is none; empty when there is none."""
    found = ASKING.search(" ".join(text.split()))
    return found[1] if found else ""


def leaves_its_noun_out(name: str) -> bool:
    """Whether the name of a test begins with a word that stands for a noun."""
    return name.removeprefix("test_").partition("_")[0] in NOUNLESS


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Of its digits; -1: there are none.", "Of"),
        ("What is left.\n\nMore.", "What"),
        ("One message to one channel.", "One"),
        ("Find the first digit; -1: there is none.", ""),
        ("Which of them? The first.", ""),
        ("The one that is left.", ""),
        ("`of` is a word.", ""),
        ("Offset of the digits.", ""),
    ],
)
def test_a_first_line_without_its_noun_or_verb_is_a_riddle(text, word):
    assert riddle(text) == word


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("What is left is read.", "What is left is read"),
        ("The end. Who comes\nlater waits.", "Who comes later waits"),
        ("The end. Who comes later?", ""),
        ("Whatever comes is read. The part that is what.", ""),
    ],
)
def test_a_sentence_that_begins_like_a_question_has_to_ask(text, sentence):
    assert asks_nothing(text) == sentence


def test_every_kind_of_docstring_and_comment_is_seen():
    source = '"""A."""\nX = 1\n"""B."""\ndef f():\n    """C."""\n    if X:\n        y = 1\n        """D."""\n'
    assert sorted(docstrings(source)) == [(1, "A."), (3, "B."), (5, "C."), (8, "D.")]
    assert list(comments("# A\n# B\n\n# C\nX = 1  # D\n")) == [(2, "A B"), (4, "C"), (5, "D")]


def test_docstrings_begin_with_an_imperative_or_a_noun_phrase():
    found = [
        f"{path.relative_to(ROOT)}:{line}: {riddle(text)}"
        for path in PATHS
        for line, text in docstrings(path.read_text())
        if riddle(text)
    ]
    assert not found, f"Begin these docstrings with an imperative or with their noun: {found}"


def test_no_sentence_begins_with_who_or_what_unless_it_asks():
    found = [
        f"{path.relative_to(ROOT)}:{line}: {asks_nothing(text)}"
        for path in PATHS
        for texts in (docstrings, comments)
        for line, text in texts(path.read_text())
        if asks_nothing(text)
    ]
    assert not found, f"Begin these sentences with their noun: {found}"


@pytest.mark.parametrize(
    ("name", "riddles"),
    [
        ("test_it_is_started_again", True),
        ("test_its_run_continues", True),
        ("test_one_that_died_is_replaced", True),
        ("test_what_fits_starts", True),
        ("test_a_crashed_server_starts_again", False),
        ("test_items_are_listed", False),
        ("test_whatever_the_clock_says_a_crash_is_told", False),
    ],
)
def test_the_name_of_a_test_begins_with_a_noun_of_its_own(name, riddles):
    assert leaves_its_noun_out(name) == riddles


def test_names_of_tests_say_of_what_something_is_expected():
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for name in re.findall(r"def (test_\w+)\(", path.read_text())
        if leaves_its_noun_out(name)
    ]
    assert not found, f"Begin these names with their noun, such as a_server or the_log: {found}"
