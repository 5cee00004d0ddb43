"""The report of a crash by page, API and command: for staff alone, and without anything secret."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from supervisor_app.fleet.models import NodeLease
from tests.integration.building import at, make_run, make_server
from tests.unit.library.raw import entry, header

pytestmark = pytest.mark.django_db

ARGV = ["llama-server", "-m", "/home/PLANTED/m.gguf", "--api-key", "[redacted]", "-c", "8192"]


@pytest.fixture
def server():
    return make_server(api_key="PLANTED-server-key", own_key="PLANTED-own-key")


@pytest.fixture
def run(server):
    return make_run(
        server,
        failure_kind="gpu_out_of_memory",
        failure_title="GPU out of memory",
        failure_detail="cudaMalloc failed: out of memory",
        exit_code=1,
        build="b11669",
        argv=ARGV,
        environment={"CUDA_VISIBLE_DEVICES": "0"},
        last_lines="uses PLANTED-server-key\ncudaMalloc failed: out of memory\nand PLANTED-own-key",
        evidence={"decisive": "cudaMalloc failed: out of memory", "decisiveAt": 1, "serving": "It worked."},
    )


def reported(run, *arguments):
    out = StringIO()
    call_command("llama", "report", run.server.name, *arguments, stdout=out)
    return out.getvalue()


def test_page_api_and_command_give_the_same_without_secrets(run, staff_client):
    text = reported(run)
    page = staff_client.get(f"/servers/default/runs/{run.pk}/report")
    assert page["Content-Type"] == "text/plain; charset=utf-8"
    assert page.content.decode() == text
    path = f"/api/servers/default/runs/{run.pk}/report"
    assert staff_client.get(path).json() == {"server": "default", "run": run.pk, "report": text}
    assert staff_client.get(f"{path}?format=text").content.decode() == text
    assert "PLANTED" not in text
    for words in (
        "build b11669",
        "**GPU out of memory: cudaMalloc failed",
        "exit code 1",
        "It worked.",
        "-c 8192",
    ):
        assert words in text


def test_the_host_is_told_where_the_server_runs_here(run):
    text = reported(run)
    assert "- Host: " in text
    assert ", kernel " in text
    run.server.node = "elsewhere"
    run.server.save()
    assert "- Host: another one than that of the pages" in reported(run)


def test_devices_are_those_that_the_supervisor_saw(run):
    device = {"total": 2**34, "free": 0, "ours": 0, "note": ""}
    devices = [{"id": "host", "name": "Host", **device}, {"id": "GPU-1", "name": "RTX 4090", **device}]
    NodeLease.objects.create(
        node="local", holder="1 0 h local", token="t", renewed_at=timezone.now(), devices={"devices": devices}
    )
    text = reported(run)
    assert "- Device: RAM, 16.0 GiB\n- Device: RTX 4090, 16.0 GiB" in text


def test_the_model_is_told_by_its_header_without_its_folder(run, tmp_path):
    assert "- Model: m.gguf, which cannot be read now" in reported(run)
    file = tmp_path / "tiny-q4_0.gguf"
    told = entry("general.architecture", "llama"), entry("general.file_type", 2)
    file.write_bytes(header(*told, entries=2))
    run.argv = ["llama-server", "-m", str(file)]
    run.save()
    text = reported(run)
    assert "- Model: tiny-q4_0.gguf, llama, Q4_0, " in text
    assert str(tmp_path) not in text


def test_the_command_takes_the_newest_that_died_or_the_one_that_is_named(server, run):
    other = make_run(server, started_at=at(1.0), ended_at=None)
    assert "GPU out of memory" in reported(run)
    assert "**It runs**" in reported(run, str(other.pk))
    with pytest.raises(CommandError, match="There is no run 999 of default"):
        reported(run, "999")
    with pytest.raises(CommandError, match="There is no run last of default"):
        reported(run, "last")


def test_a_server_that_never_died_has_no_report_of_its_own(server):
    make_run(server)
    with pytest.raises(CommandError, match="No run of default has died"):
        call_command("llama", "report", "default")


@pytest.mark.parametrize(
    ("path", "stranger", "reader"),
    [("/servers/default/runs/{}/report", 302, 403), ("/api/servers/default/runs/{}/report", 401, 403)],
)
def test_a_report_is_for_staff(path, stranger, reader, run, client, person_client, staff_client):
    here, nowhere = path.format(run.pk), path.format(999)
    codes = [each.get(here).status_code for each in (client, person_client, staff_client)]
    assert codes == [stranger, reader, 200]
    assert staff_client.get(nowhere).status_code == 404
    assert staff_client.post(here).status_code == 405
