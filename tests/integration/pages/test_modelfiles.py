"""The page of models: who may see it, what it shows, what its buttons ask for."""

from __future__ import annotations

import pytest
from django.utils import timezone

from supervisor_app.modelfiles.models import ModelFile

pytestmark = pytest.mark.django_db
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def model():
    return ModelFile.objects.create(
        node="gpu-1",
        path="/srv/models/tiny-Q4_K_M.gguf",
        name="Tiny <b>",
        quantization="Q4_K_M",
        size=5 * 2**30,
        fits=False,
        fit="`Tiny` needs 30.0 GiB on GPU 0. Free are 23.0 GiB.",
        modified_at=timezone.now(),
    )


def test_the_page_is_for_staff_alone(client, person_client, staff_client, model):
    assert client.get("/models/").status_code == 302
    assert person_client.get("/models/").status_code == 403
    assert staff_client.get("/models/").status_code == 200


def test_only_staff_may_wish_a_deletion(client, person_client, staff_client, model):
    path = f"/models/{model.pk}/delete"
    for stranger in (client, person_client):
        assert stranger.post(path).status_code == 403
    assert staff_client.get(path).status_code == 405
    model.refresh_from_db()
    assert model.delete_wished_at is None


def test_a_model_is_shown_with_its_verdict_and_its_name_as_text(staff_client, model):
    page = staff_client.get("/models/").content.decode()
    assert "Tiny &lt;b&gt;" in page
    assert "does not fit" in page
    assert "<code>Tiny</code> needs 30.0 GiB on GPU 0." in page
    assert "5.0 GiB" in page


def test_an_empty_shelf_says_what_to_do(staff_client):
    assert "No model on disk" in staff_client.get("/models/").content.decode()


def test_a_wish_is_a_row_and_the_open_page_is_pushed_what_becomes_of_it(staff_client, staff, model):
    answer = staff_client.post(f"/models/{model.pk}/delete", **HTMX).content.decode()
    assert "being deleted" in answer
    assert 'data-pushed hx-get="/models/"' in answer
    model.refresh_from_db()
    assert model.delete_wished_by == staff.username


def test_a_model_in_use_has_no_button_and_a_wish_is_refused_with_its_servers(staff_client, model):
    ModelFile.objects.update(used_by=["chat"])
    assert f"/models/{model.pk}/delete" not in staff_client.get("/models/").content.decode()
    answer = staff_client.post(f"/models/{model.pk}/delete", **HTMX).content.decode()
    assert "Tiny &lt;b&gt; is not deleted. It is used by chat" in answer


def test_without_javascript_a_wish_leads_back_to_the_page(staff_client, model):
    answer = staff_client.post(f"/models/{model.pk}/delete", follow=True)
    assert answer.redirect_chain == [("/models/", 302)]
    assert "being deleted" in answer.content.decode()


def test_models_of_several_nodes_are_told_apart(staff_client, model):
    ModelFile.objects.create(node="gpu-2", path="/m/b.gguf", name="B", modified_at=timezone.now())
    page = staff_client.get("/models/").content.decode()
    assert "On gpu-1" in page
    assert "On gpu-2" in page
