"""Rows of the models on a disk, and wishes to delete them."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.model_rules import ModelRules
from supervisor_app.fleet.models import Footprint, NodeLease
from supervisor_app.modelfiles.keeper import ModelKeeper
from supervisor_app.modelfiles.models import ModelFile
from supervisor_app.modelfiles.places import places_of
from supervisor_app.modelfiles.removal import KeptError, carry_out, wish_to_delete, wished_of
from supervisor_app.modelfiles.shelving import shelve
from tests.integration.building import make_ready_server, make_server
from tests.unit.library.raw import entry, header, tensor

pytestmark = pytest.mark.django_db
GIB = 2**30
NODE = "here"
LAYERS = [
    entry("general.architecture", "llama"),
    entry("general.name", "Tiny"),
    entry("general.file_type", 15),
    *(
        entry(f"llama.{key}", number)
        for key, number in {
            "block_count": 1,
            "context_length": 2048,
            "embedding_length": 32,
            "attention.head_count": 2,
            "feed_forward_length": 64,
        }.items()
    ),
    entry("tokenizer.ggml.tokens", ["a", "b"]),
]


@pytest.fixture
def shelf(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def overlay(shelf):
    return Overlay(models=ModelRules(models_dir=str(shelf)))


@pytest.fixture
def devices():
    seen = {"id": "host", "name": "Host", "total": 8 * GIB, "free": 6 * GIB, "ours": 0, "note": ""}
    NodeLease.objects.create(
        node=NODE,
        holder="1 0 m h",
        token="t",
        renewed_at=timezone.now(),
        devices={"devices": [seen], "problems": []},
    )


def put(path: Path, weights: int = 4096) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    told = header(*LAYERS, tensor("output.weight", (32, 32)), tensors=1, entries=len(LAYERS))
    path.write_bytes(told + bytes(weights))
    return path


def listed(overlay) -> dict[str, ModelFile]:
    shelve(NODE, overlay)
    return {Path(row.path).name: row for row in ModelFile.objects.filter(node=NODE)}


def wish(row, user, overlay) -> ModelFile | None:
    """Ask for a deletion, and let the node act: the row, if it is still there."""
    wish_to_delete(row, user)
    carry_out(wished_of(NODE), places_of(NODE, overlay))
    return ModelFile.objects.filter(pk=row.pk).first()


def test_a_model_is_listed_with_what_its_header_says_and_whether_it_fits(shelf, overlay, devices):
    put(shelf / "owner" / "repo" / "tiny-Q4_K_M.gguf")
    (row,) = listed(overlay).values()
    assert (row.name, row.architecture, row.quantization) == ("Tiny", "llama", "Q4_K_M")
    assert (row.parameters, row.context, row.parts, row.used_by) == (1024, 2048, 1, [])
    assert row.fits is True
    assert row.fit.endswith("on the host (estimated) with a context of 2 048 tokens.")
    assert (row.problem, row.kept) == ("", "")


def test_without_a_look_at_the_devices_nothing_is_said_of_fitting(shelf, overlay):
    put(shelf / "tiny.gguf")
    (row,) = listed(overlay).values()
    assert (row.fits, row.fit) == (None, "")


def test_a_file_that_is_no_model_is_listed_with_its_problem(shelf, overlay, devices):
    shelf.mkdir()
    (shelf / "bad.gguf").write_bytes(b"nonsense")
    (row,) = listed(overlay).values()
    assert "cannot be read as a model" in row.problem
    assert row.fits is None


def test_headers_are_read_once_and_of_a_changed_file_again(shelf, overlay, devices, monkeypatch):
    read = []
    put(shelf / "a.gguf")
    put(shelf / "b.gguf")
    shelve(NODE, overlay, lambda: read.append("header"))
    shelve(NODE, overlay, lambda: read.append("header"))
    assert len(read) == 2
    put(shelf / "b.gguf", weights=8192)
    assert listed(overlay)["b.gguf"].size > listed(overlay)["a.gguf"].size


def test_a_model_that_is_gone_is_listed_no_more_and_other_nodes_are_left_alone(shelf, overlay):
    elsewhere = ModelFile.objects.create(node="elsewhere", path="/m/x.gguf", modified_at=timezone.now())
    path = put(shelf / "a.gguf")
    assert "a.gguf" in listed(overlay)
    path.unlink()
    assert listed(overlay) == {}
    assert ModelFile.objects.get() == elsewhere


def test_a_model_beside_one_that_a_server_names_is_listed_and_cannot_be_deleted_here(
    tmp_path, overlay, staff
):
    named = put(tmp_path / "elsewhere" / "used.gguf")
    put(tmp_path / "elsewhere" / "other.gguf")
    put(tmp_path / "elsewhere" / "deeper" / "unseen.gguf")
    make_server("chat", node=NODE, model_path=str(named))
    rows = listed(overlay)
    assert set(rows) == {"used.gguf", "other.gguf"}
    assert rows["used.gguf"].used_by == ["chat"]
    with pytest.raises(KeptError, match="outside of this node's directory"):
        wish_to_delete(rows["other.gguf"], staff)


def test_a_router_uses_all_that_is_in_its_directory(shelf, overlay):
    put(shelf / "routed" / "a.gguf")
    put(shelf / "b.gguf")
    make_server("router", node=NODE, model_path="", models_dir=str(shelf / "routed"))
    assert {name: row.used_by for name, row in listed(overlay).items()} == {
        "a.gguf": ["router"],
        "b.gguf": [],
    }


def test_a_measurement_of_a_server_counts_for_its_model(shelf, overlay, devices):
    server = make_ready_server("chat")
    server.node, server.model_path = NODE, str(put(shelf / "a.gguf"))
    server.save()
    server.state.footprint = Footprint.objects.create(
        node=NODE, identity="i", build="b1", runs=3, measured={"host": 3 * GIB}
    )
    server.state.save()
    (row,) = listed(overlay).values()
    assert row.fit.startswith("Needs 3.0 GiB of ")
    assert row.fit.endswith("on the host (measured).")


def test_a_wish_is_carried_out_and_noted_and_empty_directories_go(shelf, overlay, staff):
    put(shelf / "owner" / "repo" / "a-00001-of-00002.gguf")
    put(shelf / "owner" / "repo" / "a-00002-of-00002.gguf")
    put(shelf / "owner" / "repo" / "mmproj-F16.gguf")
    (row,) = listed(overlay).values()
    assert row.problem == ""
    assert wish(row, staff, overlay) is None
    assert list(shelf.iterdir()) == []
    assert LogEntry.objects.get().user == staff


def test_a_projector_stays_as_long_as_another_model_may_need_it(shelf, overlay, staff):
    for name in ("a.gguf", "b.gguf", "mmproj-F16.gguf"):
        put(shelf / name)
    assert wish(listed(overlay)["a.gguf"], staff, overlay) is None
    assert {path.name for path in shelf.iterdir()} == {"b.gguf", "mmproj-F16.gguf"}


def test_a_model_that_a_server_uses_is_refused_at_once(shelf, overlay, staff):
    make_server("chat", node=NODE, model_path=str(put(shelf / "a.gguf")))
    with pytest.raises(KeptError, match="used by chat"):
        wish_to_delete(listed(overlay)["a.gguf"], staff)


def test_a_model_that_a_server_uses_since_the_wish_is_kept(shelf, overlay, staff):
    row = listed_one(shelf, overlay)
    make_server("chat", node=NODE, model_path=row.path)
    kept = wish(row, staff, overlay)
    assert kept.refusal == "It is used by chat: let the server have another model first."
    assert (kept.delete_wished_at, Path(row.path).exists()) == (None, True)


def listed_one(shelf, overlay) -> ModelFile:
    put(shelf / "sub" / "a.gguf")
    return listed(overlay)["a.gguf"]


def test_a_file_that_took_the_place_of_a_listed_one_is_kept(shelf, overlay, staff):
    row = listed_one(shelf, overlay)
    put(Path(row.path), weights=9000)
    assert "another file than the one that was listed" in wish(row, staff, overlay).refusal


def test_a_link_is_not_followed_by_a_deletion(shelf, overlay, staff, tmp_path):
    treasure = put(tmp_path / "treasure" / "a.gguf")
    shelf.mkdir()
    (shelf / "a.gguf").symlink_to(treasure)
    assert "a.gguf is a link" in wish(listed(overlay)["a.gguf"], staff, overlay).refusal
    assert treasure.exists()


def test_a_directory_that_became_a_link_leads_nowhere(shelf, overlay, staff, tmp_path):
    row = listed_one(shelf, overlay)
    os.rename(shelf / "sub", tmp_path / "treasure")
    (shelf / "sub").symlink_to(tmp_path / "treasure")
    assert "cannot be deleted" in wish(row, staff, overlay).refusal
    assert (tmp_path / "treasure" / "a.gguf").exists()


@pytest.mark.parametrize("path", ["/etc/passwd", "{shelf}/../secret.gguf", "{shelf}/sub/../../secret.gguf"])
def test_a_row_that_names_a_file_outside_deletes_nothing(path, shelf, overlay, staff, tmp_path):
    (tmp_path / "secret.gguf").write_text("secret")
    row = listed_one(shelf, overlay)
    outside = path.format(shelf=shelf)
    ModelFile.objects.filter(pk=row.pk).update(path=outside, files=[[outside, "mark"]])
    row.refresh_from_db()
    assert wish(row, staff, overlay).refusal != ""
    assert (tmp_path / "secret.gguf").exists()


def test_a_model_that_is_gone_already_is_told(shelf, overlay, staff):
    row = listed_one(shelf, overlay)
    Path(row.path).unlink()
    assert wish(row, staff, overlay).refusal == "It cannot be deleted: No such file or directory."


def test_a_keeper_lists_now_and_then_and_at_once_after_a_deletion(shelf, overlay, staff):
    now = [0.0]
    keeper = ModelKeeper(NODE, lambda: overlay, lambda: now[0])
    put(shelf / "a.gguf")
    keeper.look()
    assert not ModelFile.objects.exists()
    now[0] = timedelta(minutes=2).total_seconds()
    keeper.look()
    row = ModelFile.objects.get()
    put(shelf / "b.gguf")
    keeper.look()
    assert ModelFile.objects.get() == row
    wish_to_delete(row, staff)
    keeper.look()
    assert Path(ModelFile.objects.get().path).name == "b.gguf"


def test_models_lie_in_the_data_directory_unless_a_file_says_otherwise(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    put(tmp_path / "models" / "a.gguf")
    assert set(listed(replace(Overlay(), models=ModelRules()))) == {"a.gguf"}
