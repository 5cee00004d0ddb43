"""The page of a server's configuration: who may change, what a change shows, does and keeps."""

from __future__ import annotations

import pytest
from django.utils import timezone

from supervisor_app.fleet.conf import launch_of
from supervisor_app.fleet.models import ConfigVersion, LlamaServer
from supervisor_app.fleet.server_form import LlamaServerForm
from supervisor_app.fleet.versions import MOST_VERSIONS, configured, newest_number, note_version
from supervisor_app.pages import config
from tests.integration.building import make_run, make_server, make_state

pytestmark = pytest.mark.django_db
PATH = "/servers/chat/config/"


@pytest.fixture
def chat():
    return make_server("chat", args=["-c", "4096"], port=9001)


def typed(client, **changes):
    """Everything that the form holds, with some of it changed."""
    answer = client.get(PATH)
    form = answer.context["form"]
    said = {
        field.name: field.value()
        for field in form
        if field.value() not in (None, "") and field.value() is not False
    }
    return {**said, "version": answer.context["version"], **changes}


def test_the_page_and_its_buttons_are_for_staff(client, person_client, staff_client, chat):
    assert client.get(PATH).status_code == 302
    assert person_client.get(PATH).status_code == 403
    assert staff_client.get(PATH).status_code == 200
    for stranger in (client, person_client):
        assert stranger.post(f"{PATH}change", {"act": "apply"}).status_code == 403
        assert stranger.post(f"{PATH}1/restore").status_code == 403


def test_a_change_is_shown_before_it_is_made(staff_client, chat):
    answer = staff_client.post(f"{PATH}change", typed(staff_client, context="8192", act="review"))
    assert answer.context["form"].errors == {}
    page = answer.content.decode()
    assert "<code>-c 4096</code> → <code>-c 8192</code>" in page
    assert "restarts once" in page
    chat.refresh_from_db()
    assert chat.args == ["-c", "4096"]
    assert not ConfigVersion.objects.exists()


def test_a_change_is_applied_and_kept_with_its_author(staff_client, staff, chat):
    answer = staff_client.post(f"{PATH}change", typed(staff_client, context="8192", act="apply"))
    assert answer.status_code == 302
    chat.refresh_from_db()
    assert chat.args == ["-c", "8192"]
    second, first = ConfigVersion.objects.filter(server=chat)
    assert (first.number, first.values["args"]) == (1, ["-c", "4096"])
    assert (second.number, second.author, second.values["args"]) == (2, staff.username, ["-c", "8192"])


def test_a_change_that_is_based_on_an_older_version_is_refused_and_loses_nothing(staff_client, chat):
    said = typed(staff_client, context="8192", act="apply")
    before = configured(chat)
    chat.args = ["-c", "2048"]
    chat.save()
    note_version(chat, before, "somebody")
    answer = staff_client.post(f"{PATH}change", said)
    assert answer.status_code == 409
    assert 'name="context" value="8192"' in answer.content.decode()
    assert "<code>-c 2048</code> → <code>-c 8192</code>" in answer.content.decode()
    chat.refresh_from_db()
    assert chat.args == ["-c", "2048"]


def test_a_field_that_was_left_alone_is_as_another_has_changed_it(staff_client, chat):
    LlamaServer.objects.update(pinned=True, aliases=["a", "b"])
    chat.refresh_from_db()
    said = typed(staff_client, slots="2", max_queue="9", act="apply")
    before = configured(chat)
    chat.args, chat.seamless, chat.pinned, chat.aliases = ["-c", "2048", "--jinja"], True, False, ["c"]
    chat.save()
    note_version(chat, before, "somebody")
    answer = staff_client.post(f"{PATH}change", said)
    assert answer.status_code == 409
    assert [change.field for change in answer.context["changes"]] == ["args", "max_queue"]
    again = {
        **said,
        **{name: answer.context["form"].data.get(name) for name in answer.context["form"].fields},
    }
    again = {name: value for name, value in again.items() if value is not None}
    staff_client.post(f"{PATH}change", {**again, "version": answer.context["version"]})
    chat.refresh_from_db()
    assert chat.args == ["-c", "2048", "-np", "2", "--jinja"]
    assert (chat.seamless, chat.pinned, chat.aliases, chat.max_queue) == (True, False, ["c"], 9)


def test_a_mistake_in_between_does_not_hide_the_change_of_another(staff_client, chat):
    said = typed(staff_client, args="--temp 'x", act="apply")
    before = configured(chat)
    chat.args = ["-c", "2048"]
    chat.save()
    note_version(chat, before, "somebody")
    again = staff_client.post(f"{PATH}change", said).context["version"]
    assert (
        staff_client.post(f"{PATH}change", {**said, "args": "--temp 1", "version": again}).status_code == 409
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"args": "--log-file /etc/passwd"}, "--log-file: not accepted from a form"),
        ({"port": "70000"}, "70000 is not a port"),
        ({"port": "9002"}, "9002 is the port of other"),
        ({"args": "--temp 'x"}, "Close every quote"),
        ({"args": "-c 8192"}, "-c 8192 is among the flags below, 4096 in this field. Leave one of them."),
        ({"slots": "0"}, "greater than or equal to 1"),
        ({"gpu_layers": "9 or more"}, "Write a number, auto or all."),
        ({"engine": "cuda"}, "cuda is not one of the available choices"),
    ],
)
def test_a_mistake_is_told_and_loses_nothing(staff_client, chat, changes, complaint):
    make_server("other", port=9002)
    answer = staff_client.post(f"{PATH}change", typed(staff_client, act="apply", **changes))
    page = answer.content.decode()
    assert answer.status_code == 400
    assert complaint in page
    chat.refresh_from_db()
    assert (chat.args, chat.port) == (["-c", "4096"], 9001)


def test_a_version_is_brought_back_as_a_new_one(staff_client, chat):
    staff_client.post(f"{PATH}change", typed(staff_client, context="8192", act="apply"))
    assert staff_client.post(f"{PATH}1/restore").status_code == 302
    chat.refresh_from_db()
    assert chat.args == ["-c", "4096"]
    newest = ConfigVersion.objects.filter(server=chat)[0]
    assert (newest.number, newest.note) == (3, "Version 1 again")
    assert staff_client.post(f"{PATH}1/restore").status_code == 409
    assert staff_client.post(f"{PATH}77/restore").status_code == 409


def test_a_secret_is_in_no_version_and_on_no_page(staff_client, chat):
    staff_client.post(f"{PATH}change", typed(staff_client, api_key="quite-secret", act="apply"))
    chat.refresh_from_db()
    assert chat.api_key == "quite-secret"
    assert "quite-secret" not in str([version.values for version in ConfigVersion.objects.all()])
    assert "quite-secret" not in staff_client.get(PATH).content.decode()
    staff_client.post(f"{PATH}change", typed(staff_client, api_key="-", act="apply"))
    assert b"held a secret" in staff_client.post(f"{PATH}2/restore").content


@pytest.mark.parametrize("changes", [{"port": "70000"}, {"act": "review"}])
def test_a_typed_key_is_not_repeated_and_the_page_says_so(staff_client, chat, changes):
    said = {"act": "apply", **changes}
    page = staff_client.post(f"{PATH}change", typed(staff_client, api_key="quite-secret", **said)).content
    assert b"quite-secret" not in page
    assert b"Type the key again" in page
    signed = staff_client.post(f"{PATH}change", typed(staff_client, api_key="*", **said)).content.decode()
    assert "Type the key again" not in signed
    assert 'name="api_key" value="*"' in signed


def test_a_port_that_another_takes_at_the_same_moment_is_told_beside_its_field(
    staff_client, chat, monkeypatch
):
    def take_the_port(server):
        LlamaServer.objects.get_or_create(name="quicker", port=9002, model_path="m.gguf")
        return newest_number(server)

    said = typed(staff_client, port="9002", act="apply")
    monkeypatch.setattr(config, "newest_number", take_the_port)
    monkeypatch.setattr(config.ConfigForm, "clean", LlamaServerForm.clean)
    monkeypatch.setattr(LlamaServer, "validate_constraints", lambda *_args, **_named: None)
    answer = staff_client.post(f"{PATH}change", said)
    assert answer.status_code == 409
    assert "9002 is another server" in str(answer.context["form"].errors["port"])
    chat.refresh_from_db()
    assert chat.port == 9001


def test_a_setting_of_a_file_is_read_only(staff_client, chat):
    LlamaServer.objects.update(file="/etc/llamaproxy.toml", file_fields=["args"])
    page = staff_client.get(PATH)
    assert not {"args", "context", "slots", "gpu_layers"} & page.context["form"].fields.keys()
    assert "/etc/llamaproxy.toml" in page.content.decode()
    staff_client.post(f"{PATH}change", typed(staff_client, args="-c 1", context="1", act="apply"))
    chat.refresh_from_db()
    assert chat.args == ["-c", "4096"]


def test_no_more_versions_are_kept_than_their_bound(chat):
    for number in range(MOST_VERSIONS + 5):
        before = configured(chat)
        chat.priority = number + 1
        chat.save()
        note_version(chat, before, "somebody")
    assert ConfigVersion.objects.filter(server=chat).count() == MOST_VERSIONS


def test_a_preview_says_what_would_be_launched(staff_client, person_client, chat):
    said = typed(staff_client, context="8192", api_key="quite-secret")
    page = staff_client.post(f"{PATH}preview", said).content.decode()
    assert "--port 9001 -c 8192" in page
    assert "<code>-c 4096</code> → <code>-c 8192</code>" in page
    assert "quite-secret" not in page
    assert person_client.post(f"{PATH}preview", said).status_code == 403
    mistaken = staff_client.post(f"{PATH}preview", {**said, "args": "--rpc x"}).content.decode()
    assert "cannot be applied yet" in mistaken
    chat.refresh_from_db()
    assert chat.args == ["-c", "4096"]


@pytest.mark.parametrize(
    ("args", "changes", "now"),
    [
        (["--jinja", "--ctx-size", "4096"], {}, ["--jinja", "--ctx-size", "4096"]),
        (["--jinja", "-c", "4096"], {"slots": "2"}, ["-c", "4096", "-np", "2", "--jinja"]),
        (["-c", "4096", "-ngl", "99"], {"context": "", "gpu_layers": "all"}, ["-ngl", "all"]),
        (["-c", "4096"], {"context": "", "args": "--ctx-size=1 --jinja"}, ["-c", "1", "--jinja"]),
    ],
)
def test_fields_in_plain_words_stand_for_flags(staff_client, chat, args, changes, now):
    LlamaServer.objects.update(args=args)
    staff_client.post(f"{PATH}change", typed(staff_client, act="apply", **changes))
    chat.refresh_from_db()
    assert chat.args == now


ENGINES = """[engines.cuda]
binary = "{program}"
environment = {{ MORE = "--of-cuda" }}
"""


@pytest.fixture
def engines(tmp_path, settings, monkeypatch):
    """A file with an engine; also the default engine tells its flags."""
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho '-c,    --ctx-size N    context'; echo \"$MORE\"\n")
    program.chmod(0o755)
    settings.LLAMAPROXY_CONFIG = tmp_path / "llamaproxy.toml"
    settings.LLAMAPROXY_CONFIG.write_text(ENGINES.format(program=program))
    monkeypatch.setenv("LLAMA_SERVER_BINARY", str(program))
    return settings.LLAMAPROXY_CONFIG


def test_a_flag_that_the_chosen_engine_does_not_know_is_refused(staff_client, chat, engines):
    said = typed(staff_client, args="--of-cuda", act="apply")
    answer = staff_client.post(f"{PATH}change", said)
    assert "knows no --of-cuda" in answer.content.decode()
    answer = staff_client.post(f"{PATH}change", typed(staff_client, args="--ctx-sise 1", act="apply"))
    assert "knows no --ctx-sise. Did you mean --ctx-size?" in answer.content.decode()
    assert "--of-cuda: not accepted from a form" in (
        staff_client.post(f"{PATH}change", {**said, "engine": "cuda"}).content.decode()
    )
    assert (
        staff_client.post(f"{PATH}change", typed(staff_client, context="1", act="apply")).status_code == 302
    )


def test_an_engine_that_does_not_tell_its_flags_is_a_sentence(staff_client, chat, tmp_path, monkeypatch):
    monkeypatch.setenv("LLAMA_SERVER_BINARY", str(tmp_path / "nowhere"))
    page = staff_client.post(f"{PATH}preview", typed(staff_client)).content.decode()
    assert "Flags are not checked: " in page
    assert "nowhere" in page


def test_an_engine_is_chosen_by_its_name_alone(staff_client, chat, engines):
    form = staff_client.get(PATH).context["form"]
    assert [name for name, _ in form.fields["engine"].choices] == ["", "cuda"]
    page = staff_client.post(f"{PATH}preview", typed(staff_client, engine="cuda")).content.decode()
    assert "<code>none</code> → <code>cuda</code>" in page
    assert "restarts once" in page
    staff_client.post(f"{PATH}change", typed(staff_client, engine="cuda", act="apply"))
    chat.refresh_from_db()
    assert chat.engine == "cuda"
    assert ConfigVersion.objects.filter(server=chat)[0].values["engine"] == "cuda"


def test_an_engine_that_is_described_no_more_is_told_and_stays(staff_client, chat, engines):
    LlamaServer.objects.update(engine="rocm")
    page = staff_client.get(PATH)
    assert "chat is to run on the engine rocm" in page.content.decode()
    assert "has no [engines.rocm]. Write that table" in page.content.decode()
    assert [name for name, _ in page.context["form"].fields["engine"].choices] == ["", "cuda", "rocm"]
    staff_client.post(f"{PATH}change", typed(staff_client, priority="3", act="apply"))
    chat.refresh_from_db()
    assert (chat.engine, chat.priority) == ("rocm", 3)


def test_an_engine_of_another_host_is_written_by_its_name(staff_client, chat, engines):
    LlamaServer.objects.update(node="far")
    staff_client.post(f"{PATH}change", typed(staff_client, engine="theirs", act="apply"))
    chat.refresh_from_db()
    assert chat.engine == "theirs"


def test_a_version_that_does_not_get_ready_offers_the_one_that_did(staff_client, chat):
    now = timezone.now()
    make_run(chat, launch=launch_of(chat), started_at=now, ready_at=now, ended_at=now)
    staff_client.post(f"{PATH}change", typed(staff_client, context="8192", act="apply"))
    make_state(chat, "error", can_roll_back=True, last_error="No room", detail="No room")
    for path in ("/servers/chat/", PATH):
        page = staff_client.get(path).content.decode()
        assert "Version 2 did not get ready: No room." in page
        assert f'action="{PATH}1/restore"' in page
    staff_client.post(f"{PATH}1/restore")
    chat.refresh_from_db()
    assert chat.args == ["-c", "4096"]
