"""All documents hold together: their links, lines and names, and what is delivered beside them."""

from __future__ import annotations

import re

import pytest

from supervisor_app.roles.management.commands import runsupervisor
from tests.unit.documents import (
    ARCHITECTURE,
    CI,
    DEPTH,
    DOCS,
    DOCUMENTS,
    LOCK,
    PROJECT,
    README,
    ROOT,
    own_options,
    sources_of,
)

# --- All documents -------------------------------------------------------------------------------------

LONGEST_LINE = 120
"""Characters, so that a diff can be reviewed."""


def chapters(text):
    """Return the anchors of all headings, as GitHub makes them."""
    titles = re.findall(r"(?m)^#+ (.*)$", without_code(text))
    return [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]


def without_code(text):
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", text)


def links(text):
    """Return (path, anchor) of each link to another document or chapter, and of each picture."""
    text = without_code(text)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    return [target.partition("#")[::2] for target in targets if "://" not in target]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_targets_of_links_in_documents_exist(name):
    folder = (ROOT / name).parent
    missing = [path for path, _ in links((ROOT / name).read_text()) if not (folder / path).exists()]
    assert missing == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_chapters_that_a_document_points_to_are_there(name):
    here = ROOT / name
    missing = [
        (path, anchor)
        for path, anchor in links(here.read_text())
        if anchor and anchor not in chapters((here.parent / path if path else here).read_text())
    ]
    assert missing == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_two_chapters_of_a_document_have_one_anchor(name):
    anchors = chapters((ROOT / name).read_text())
    if name != "CHANGELOG.md":  # "Added", "Fixed", … in each version
        assert len(anchors) == len(set(anchors))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_lines_of_a_document_are_short(name):
    lines = (ROOT / name).read_text().splitlines()
    assert [line for line in lines if len(line) > LONGEST_LINE] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_sentence_of_a_document_begins_with_who_or_what_unless_it_asks(name):
    lines = [
        re.sub(r"^(- |\d+\. )", "", line.strip())
        for line in without_code((ROOT / name).read_text()).splitlines()
        if not line.startswith(("#", "|"))
    ]
    sentences = re.findall(r"(?:^|\n\n|\n(?=[A-Z])|[.:?!] )((?:Who|What)\b[^.?!]*.)", "\n".join(lines))
    assert [sentence for sentence in sentences if not sentence.endswith("?")] == []


def test_readme_has_a_map_of_all_documents():
    assert {f"docs/{name}.md" for name in DOCS} <= set(re.findall(r"(?m)^\| \[(\S+?)\]\(\1\) \|", README))


def test_readme_is_a_screen_and_a_half():
    assert len(README.splitlines()) <= 90


# --- The other documents -------------------------------------------------------------------------------


GLUE = {"management", "migrations", "templatetags"}
"""Packages that Django finds by their names."""


def test_architecture_has_every_room():
    packages = {path.parent.name for path in (ROOT / "supervisor_app").glob("*/__init__.py")} - GLUE
    said = set(re.findall(r"(?m)^\| `supervisor_app/(\w+)/` \|", ARCHITECTURE))
    assert said == packages


def test_architecture_is_a_page_that_leads_to_the_others():
    assert len(ARCHITECTURE.splitlines()) <= 250
    assert {f"docs/architecture/{name}.md" for name in DEPTH} <= {path for path, _ in links(ARCHITECTURE)}


def test_supervision_has_every_room_of_core():
    core = ROOT / "supervisor_app" / "core"
    packages = {f"{path.parent.name}/" for path in core.glob("*/__init__.py")}
    assert rooms_of("core", "supervision") == packages | {path.stem for path in core.glob("*.py")} - {
        "__init__"
    }


def test_gateway_has_every_room_of_the_gateway():
    gateway = ROOT / "supervisor_app" / "gateway"
    packages = {f"{path.parent.name}/" for path in gateway.glob("*/__init__.py")}
    assert rooms_of("gateway", "gateway") == packages | {path.stem for path in gateway.glob("*.py")} - {
        "__init__"
    }


def rooms_of(house, document):
    """Return the names before the colon of each item, or in the first cell of each row, of its rooms."""
    chapter = DEPTH[document].split(f"## In `{house}/`")[1].split("\n#")[0]
    names = " ".join(re.findall(r"(?m)^(?:- (?=[^:]+:)|\| (?=`))([^:|]+)", chapter))
    return set(re.findall(r"`([\w/]+)`", names))


def table_below(heading):
    """Return the first two cells of each row below a heading of ARCHITECTURE.md, without the head of a table."""
    chapter = ARCHITECTURE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"(?m)^\|(?!---)([^|]*)\|(.*)\|$", chapter)
    return [(first.strip(), rest.strip()) for first, rest in found if "what happens" not in first]


def test_architecture_names_only_files_that_are_there():
    named = re.findall(r"`([\w/]+\.py)`", "".join([ARCHITECTURE, *DEPTH.values()]))
    assert named
    ours = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    there = [str(path) for folder in ours for path in folder.rglob("*.py")] + [
        str(path) for path in ROOT.glob("*.py")
    ]
    assert [name for name in named if not any(path.endswith(f"/{name}") for path in there)] == []


WHERE_A_LINE_GOES = DEPTH["where-lines-go"]
ROOMS = ("supervisor_app", "static/supervisor", "templates/supervisor")
"""Folders from which files are named in that document, beside the top level."""


def test_the_files_where_a_line_goes_are_there():
    named = re.findall(r"`([\w/-]+(?:/|\.(?:py|md|json)))`", WHERE_A_LINE_GOES)
    assert len(named) > 30
    assert [name for name in named if not any((ROOT / room / name).exists() for room in (".", *ROOMS))] == []


def test_the_names_where_a_line_goes_are_in_the_code():
    names = set(re.findall(r"`@?([A-Za-z_]+)(?:\(…\))?`", WHERE_A_LINE_GOES))
    code = sources_of("supervisor_app") + sources_of("tests")
    assert len(names) > 25
    assert names - set(re.findall(r"\w+", code)) == set()


def test_changelog_begins_with_the_version_of_the_project():
    first = re.search(r"(?m)^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text())
    assert first
    assert first[1] == PROJECT["version"]


# --- Delivery ------------------------------------------------------------------------------------------


def test_ci_finds_the_test_command_in_readme():
    (pattern,) = re.findall(r"grep -m 1 '(.+)' README\.md", CI)
    (command,) = re.findall(f"(?m){pattern}", README)
    assert command.endswith("-m pytest")
    assert '"$test_command"' in CI


def test_ci_runs_every_check_of_pre_commit():
    hooks = re.findall(r"(?m)^ +entry: (.+)$", (ROOT / ".pre-commit-config.yaml").read_text())
    assert hooks
    assert [hook for hook in hooks if hook.replace(" --force-exclude", "") not in CI] == []


def test_the_lock_file_has_what_the_project_needs():
    wanted = {*PROJECT["dependencies"]}.union(*PROJECT["optional-dependencies"].values())
    names = {re.split(r"[\[<>=;~! ]", requirement)[0].lower() for requirement in wanted}
    locked = set(re.findall(r"(?m)^([a-z0-9-]+)==", LOCK))
    assert names - locked == set()


def test_the_lock_file_names_no_host():
    assert "//" not in LOCK


@pytest.mark.parametrize("unit", sorted((ROOT / "deploy").glob("*.service")), ids=lambda path: path.name)
def test_a_unit_that_supervises_leaves_the_servers_alive_when_it_is_killed(unit):
    text = unit.read_text()
    if "runsupervisor" in text:
        assert "\nKillMode=process\n" in text
        assert "\nOOMPolicy=continue\n" in text


def test_a_unit_that_supervises_does_not_try_again_what_cannot_work():
    codes = f"RestartPreventExitStatus={runsupervisor.BAD_USAGE} {runsupervisor.NODE_TAKEN}\n"
    units = [path.read_text() for path in (ROOT / "deploy").glob("*.service")]
    assert [codes in text for text in units if "runsupervisor" in text] == [True, True]


def test_every_unit_starts_what_there_is():
    known = own_options("runsupervisor")
    for unit in (ROOT / "deploy").glob("*.service"):
        for option in re.findall(r" (--[a-z-]+)", "".join(re.findall(r"runsupervisor.*", unit.read_text()))):
            assert option in known


def proofs_below(heading):
    """Return promise -> tests of each item below a heading of docs/architecture/proofs.md."""
    chapter = DEPTH["proofs"].split(f"\n## {heading}\n")[1].split("\n## ")[0]
    items = re.findall(r"(?ms)^- ([^:\n]+)(.*?)(?=\n- |\n\n|\Z)", chapter)
    return {promise: re.findall(r"`(tests?[_/][\w/.]+)`", rest) for promise, rest in items}


PROOFS = {heading: proofs_below(heading) for heading in ("What survives what", "Who may do what")}


@pytest.mark.parametrize("heading", PROOFS)
def test_every_promise_has_its_proof(heading):
    promises = [
        first for first, _ in table_below(heading) if first and first[0] not in "…*" and first != "who"
    ]
    assert list(PROOFS[heading]) == promises
    assert [promise for promise, tests in PROOFS[heading].items() if not tests] == []


def test_the_promises_are_found():
    assert len(PROOFS["What survives what"]) > 45
    assert len(PROOFS["Who may do what"]) > 7


def test_every_test_that_proves_something_is_there():
    proofs = {test for tests in PROOFS.values() for below in tests.values() for test in below}
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert {name for name in proofs if f"def {name}(" not in sources and not (ROOT / name).is_file()} == set()


def test_the_glossary_is_short_and_in_use():
    words_said = re.findall(r"\*\*(.+?)\*\*", " ".join(first for first, _ in table_below("Glossary")))
    assert len(words_said) <= 25
    everything = "".join((ROOT / name).read_text() for name in DOCUMENTS).lower()
    assert [word for said in words_said for word in said.split(", ") if everything.count(word) < 2] == []
