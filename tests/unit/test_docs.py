"""What the documents promise is what the code has."""

from __future__ import annotations

import ast
import json
import re

import pytest

from supervisor_app.alerts.retention import ALERTS_KEPT
from supervisor_app.alerts.rules import AlertEvent, write_test
from supervisor_app.core.memory_rules import MEMORY_SETTINGS
from supervisor_app.core.settings import SETTINGS
from supervisor_app.core.status import Failure, FailureKind, LlamaStatus, Status
from supervisor_app.fleet.audit import KEPT
from supervisor_app.fleet.model_rules import MODEL_SETTINGS
from supervisor_app.fleet.retention import RUNS_KEPT
from supervisor_app.fleet.snapshots import ServerView
from supervisor_app.roles.management.commands import llama, runsupervisor
from supervisor_app.urls import urlpatterns
from tests.unit.documents import (
    DOCS,
    ROOT,
    own_options,
    sources_of,
    words,
)

READS_THE_ENVIRONMENT = ["llamaproxy/settings.py", "llamaproxy/env.py", "supervisor_app/fleet/conf.py"]


def rows(text):
    """First cell -> the other cells, of every table row whose first cell is one `word`."""
    found = re.findall(r"(?m)^\| `(\S+)[^`|]*` \|(.*)\|$", text)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in found}


def variables(path):
    """Names that a file asks the environment for: os.environ.get(…), env_bool(…), env_list(…)."""
    tree = ast.parse((ROOT / path).read_text())
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        asked = ast.unparse(call.func) in ("os.environ.get", "env_bool", "env_list")
        if asked and isinstance(call.args[0], ast.Constant):
            yield call.args[0].value
        if ast.unparse(call.func) == "dj_database_url.config":
            yield "DATABASE_URL"


VARIABLES = sorted({name for path in READS_THE_ENVIRONMENT for name in variables(path)})


def exit_codes(module):
    """The whole numbers with a name in capitals, as EXIT = 2."""
    return sorted(
        {
            value
            for name, value in vars(module).items()
            if name.isupper() and isinstance(value, int) and 0 < value < 256
        }
    )


# --- configure.md --------------------------------------------------------------------------------------


FILE_KEYS, ENVIRONMENT = DOCS["configure"].split("\n## Environment\n")


HEADING = "| key | default | meaning |"


def test_the_table_of_settings_is_as_they_are_declared():
    table = FILE_KEYS.split(HEADING)[1].split("\n\n")[0]
    assert table.strip() == "\n".join(["|---|---|---|", *(setting.row for setting in SETTINGS)])


@pytest.mark.parametrize(
    "setting", [setting for setting in SETTINGS if setting.note], ids=lambda one: one.key
)
def test_the_list_below_the_table_of_settings_is_as_they_are_declared(setting):
    assert setting.item in re.sub(r"\n +", " ", FILE_KEYS)


def test_the_list_below_the_table_of_settings_has_no_other():
    items = FILE_KEYS.split(HEADING)[1].split("\n\n- ")[1].split("\n\n")[0]
    assert re.findall(r"(?m)^(?:- )?`(\w+)`: ", items) == [each.key for each in SETTINGS if each.note]


@pytest.mark.parametrize("setting", [*MEMORY_SETTINGS, *MODEL_SETTINGS], ids=lambda one: one.key)
def test_configure_has_each_rule_of_a_node_as_it_is_declared(setting):
    assert f"\n{setting.row}\n" in FILE_KEYS


def test_configure_has_every_environment_variable_and_no_other():
    assert sorted(rows(ENVIRONMENT)) == VARIABLES


def test_the_environment_variables_are_found():
    assert {"DATABASE_URL", "DEBUG", "SECRET_KEY", "LLAMA_SERVER_BINARY"} <= set(VARIABLES)


def test_only_these_files_read_the_environment():
    readers = {
        str(path.relative_to(ROOT))
        for folder in ("llamaproxy", "supervisor_app")
        for path in (ROOT / folder).rglob("*.py")
        if set(variables(path))
    }
    assert readers == set(READS_THE_ENVIRONMENT)


# --- operate.md, api.md, alerts.md, gateway.md, troubleshooting.md --------------------------------------


@pytest.mark.parametrize("command", ["runsupervisor", "rungateway", "llama"])
def test_operate_has_every_command_line_option(command):
    said = DOCS["operate"].replace("`", " ")
    assert [option for option in own_options(command) if f"{option} " not in said] == []


@pytest.mark.parametrize("module", [runsupervisor, llama])
def test_operate_has_every_exit_code(module):
    codes = exit_codes(module)
    assert codes
    assert [f"**{code}**" in DOCS["operate"] for code in codes] == [True] * len(codes)


NOT_TO_KNOW = ("login-link", "set-password", None)  # steps of the first login, an icon
ROUTES = [str(route.pattern) for route in urlpatterns if route.name not in NOT_TO_KNOW]


@pytest.mark.parametrize("route", ROUTES)
def test_api_has_every_address(route):
    plain = re.sub(r"<\w+:name>", "<name>", route).replace("<int:number>", "<id>")
    start = "/" + re.split("<(?:wish|slug):", plain)[0]
    assert re.search(rf"[` ]{re.escape(start)}", DOCS["api"])


def test_api_has_every_status():
    assert f"`{' '.join(Status)}`" in DOCS["api"]


def test_the_json_in_api_has_the_keys_of_the_api():
    (sample,) = re.findall(r"```json\n(.*?)```", DOCS["api"], re.DOTALL)
    failure = Failure(kind=FailureKind.EXITED, permanent=False, title="", detail="", hint="")
    real = ServerView(status=LlamaStatus(name="default", failure=failure)).as_json(0)
    assert list(json.loads(sample)) == list(real)
    assert list(json.loads(sample)["failure"]) == list(real["failure"])


def test_the_json_in_alerts_has_the_keys_of_an_alert():
    (sample,) = re.findall(r'```\n(\{"event".*?)```', DOCS["alerts"], re.DOTALL)
    assert list(json.loads(sample, strict=False)) == list(write_test("me", node="local", now=0).as_json())


def test_alerts_has_every_event():
    assert set(re.findall(r"`([a-z_ ]+)` or `test`", DOCS["alerts"])[0].split()) == {*AlertEvent} - {"test"}


def test_the_documents_say_how_much_of_the_past_is_kept():
    assert f"The last {RUNS_KEPT} of each server are kept." in words(DOCS["troubleshooting"])
    assert f"Acts are kept for {KEPT.days} days." in words(DOCS["operate"])
    assert f"kept for {ALERTS_KEPT.days} days after its end" in words(DOCS["alerts"])


def test_gateway_has_every_code_of_an_error():
    codes = set(re.findall(r'code="(\w+)"', sources_of("supervisor_app/gateway")))
    assert len(codes) > 10
    assert {code for code in codes if f"`{code}`" not in DOCS["gateway"]} == set()


@pytest.mark.parametrize(
    ("document", "folder"),
    [("gateway", "supervisor_app/gateway"), ("api", "supervisor_app")],
)
def test_every_metric_is_in_its_document(document, folder):
    names = set(re.findall(r'"(llamaproxy_\w+)"', sources_of(folder)))
    of_servers = {name for name in names if name.startswith("llamaproxy_server_")}
    wanted = of_servers if document == "api" else names - of_servers
    assert wanted
    assert {name for name in wanted if f"`{name}" not in DOCS[document]} == set()
