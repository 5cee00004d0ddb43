"""`manage.py llama devices` and `llama footprint`, from a shell."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from supervisor_app.core.devices import Device, Survey
from supervisor_app.core.machine.identity import identity_of
from supervisor_app.fleet import devices
from supervisor_app.fleet.conf import resolve
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.footprint_rows import save_records
from supervisor_app.fleet.launches import look_at
from supervisor_app.fleet.models import LlamaServer, this_node
from supervisor_app.roles.management.commands import llama as command
from tests import shapes
from tests.integration.building import make_server, make_state

GIB = 2**30
SURVEY = Survey(
    (
        Device(id="host", name="Host memory", total=64 * GIB, free=40 * GIB, ours=4 * GIB),
        Device(
            id="GPU-1",
            name="GPU 0: NVIDIA\x1b[31m L4",
            total=24 * GIB,
            free=9 * GIB,
            ours=12 * GIB,
            note="So so.",
        ),
    ),
    ("GPU 1 cannot be read: GPU is lost.",),
)

pytestmark = pytest.mark.django_db


def llama(*arguments):
    out, err = StringIO(), StringIO()
    call_command("llama", *arguments, stdout=out, stderr=err, no_color=True)
    return out.getvalue(), err.getvalue()


@pytest.fixture
def survey(monkeypatch):
    monkeypatch.setattr(command, "survey_this_node", lambda: SURVEY)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return shapes.dense(tmp_path_factory.mktemp("models") / "dense.gguf")


@pytest.fixture
def child_pid():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield child.pid
        child.stdin.close()


@pytest.mark.usefixtures("survey")
def test_devices_are_a_table_and_problems_a_line_each():
    said, complained = llama("devices")
    assert said.splitlines() == [
        "Device                       Total  Our servers    Others      Free",
        "Host memory               64.0 GiB      4.0 GiB  20.0 GiB  40.0 GiB",
        "GPU 0: NVIDIA\\x1b[31m L4  24.0 GiB     12.0 GiB   3.0 GiB   9.0 GiB",
        "GPU 0: NVIDIA\\x1b[31m L4: So so.",
    ]
    assert complained.strip() == "⚠️ GPU 1 cannot be read: GPU is lost."


@pytest.mark.usefixtures("survey")
def test_devices_as_json_are_in_bytes():
    said = json.loads(llama("devices", "--json")[0])
    assert said["problems"] == ["GPU 1 cannot be read: GPU is lost."]
    assert said["devices"][0] == {
        "id": "host",
        "name": "Host memory",
        "total": 64 * GIB,
        "ours": 4 * GIB,
        "strangers": 20 * GIB,
        "free": 40 * GIB,
        "note": "",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
def test_memory_of_our_servers_is_ours_and_that_of_a_reused_pid_is_not(child_pid):
    me = identity_of(child_pid)
    state = make_state(make_server(), pid=me.pid, process_start=me.start, boot_id=me.boot_id)
    assert devices.survey_this_node().devices[0].ours > 0
    state.process_start -= 1
    state.save()
    assert devices.survey_this_node().devices[0].ours == 0


@pytest.mark.usefixtures("survey")
def test_the_footprint_of_a_file_is_told_by_part_and_device(model):
    said, _ = llama("footprint", str(model), "--flags=-ngl 3 -c 2048")
    assert said.splitlines()[:8] == [
        f"{model} needs about 22 MiB (estimated).",
        "",
        "          GPU 0: NVIDIA\\x1b[31m L4  Host memory",
        "weights                    2.6 MiB      2.6 MiB",
        "context                    1.0 MiB      1.0 MiB",
        "compute                    7.5 MiB      7.5 MiB",
        "together                  11.1 MiB     11.1 MiB",
        "free now                   9.0 GiB     40.0 GiB",
    ]


@pytest.mark.usefixtures("survey")
def test_the_footprint_as_json_says_that_it_is_estimated(model):
    said = json.loads(llama("footprint", str(model), "--json")[0])
    assert said["source"] == "estimated"
    parts = said["estimate"]["devices"]
    assert said["total"] == sum(said["bytes"].values()) == sum(device["bytes"] for device in parts)
    assert [device["id"] for device in parts] == ["GPU-1", "host"]
    assert set(parts[0]["parts"]) == {"weights", "context", "compute"}


@pytest.mark.usefixtures("survey")
def test_the_measured_need_of_a_server_is_told_before_the_estimate(model):
    make_server("big", model_path=str(model), args=["-c", "2048"])
    estimated = json.loads(llama("footprint", "big", "--json")[0])
    spec = resolve(LlamaServer.objects.get(), last_good(), command=(), cwd=os.getcwd()).spec
    fresh = replace(look_at(spec, SURVEY.devices).fresh, build="b11669")
    peak = {device: count + 2**20 for device, count in estimated["bytes"].items()}
    record = fresh.after_run(peak, "run 1", time.time())
    save_records(this_node(), {(record.identity, record.build): record}, {})
    said = llama("footprint", "big")[0].splitlines()
    assert re.fullmatch(r"big needs [\d.]+ MiB \(measured in 1 run, build b11669\)\.", said[0])
    assert said[7].split()[0] == "measured"
    assert "With -c 1024 it would need about" in "\n".join(said)
    assert json.loads(llama("footprint", "big", "--json")[0])["bytes"] == peak


@pytest.mark.usefixtures("survey")
def test_other_flags_than_those_that_were_measured_are_estimated(model):
    make_server("big", model_path=str(model), args=["-c", "2048"])
    spec = resolve(LlamaServer.objects.get(), last_good(), command=(), cwd=os.getcwd()).spec
    record = look_at(spec, SURVEY.devices).fresh.after_run({"host": 1, "GPU-1": 2**30}, "run 1", time.time())
    save_records(this_node(), {(record.identity, record.build): record}, {})
    assert "(measured in 1 run)" in llama("footprint", "big")[0]
    assert "(estimated)" in llama("footprint", "big", "--flags=-c 4096")[0]


@pytest.mark.usefixtures("survey")
def test_the_footprint_of_a_server_is_by_its_own_flags(model):
    make_server("big", model_path=str(model), args=["-c", "2048"])
    small = json.loads(llama("footprint", "big", "--json")[0])["total"]
    large = json.loads(llama("footprint", "big", "--flags=-c 4096", "--json")[0])["total"]
    assert large > small


@pytest.mark.usefixtures("survey")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["footprint"], "Of what? Name a server or a GGUF file."),
        (["footprint", "nobody"], "There is no server and no file 'nobody'. Servers: far, fetched, router."),
        (["footprint", "/dev/null"], "/dev/null cannot be read as a model: it is empty."),
        (["footprint", "far"], "far runs on node gpu-7, and so its model is there: ask there."),
        (
            ["footprint", "router"],
            "llama-server chooses or fetches its model itself: there is no file to look into",
        ),
        (
            ["footprint", "fetched"],
            "llama-server chooses or fetches its model itself: there is no file to look into",
        ),
        (["footprint", "/dev/null", "--flags='"], "No closing quotation"),
        (["footprint", "/dev/null", "--flags=-c x"], "-c x: llama-server would not take that value."),
    ],
)
def test_a_mistake_is_one_sentence(arguments, said):
    make_server("far", node="gpu-7")
    make_server("router", port=9001, models_dir="/models", model_path="")
    make_server("fetched", port=9002, args=["-hf", "ggml-org/tiny"])
    with pytest.raises(CommandError, match="^" + re.escape(said)) as error:
        llama(*arguments)
    assert "\n" not in str(error.value)
