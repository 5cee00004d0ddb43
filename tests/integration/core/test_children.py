"""Children of this machine, as they are started: by the C library, and by `subprocess` where it cannot."""

from __future__ import annotations

import os
import signal
from threading import Thread

import pytest

from supervisor_app.core.machine import children
from supervisor_app.core.machine.children import SpawnedChild, start_child

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "WORD": "said"}


@pytest.fixture
def output(tmp_path):
    with (tmp_path / "output").open("w+b") as file:
        yield file


@pytest.fixture(params=["the C library", "subprocess"])
def either_way(request, monkeypatch):
    if request.param == "subprocess":
        monkeypatch.setattr(children, "_LIBC", None)


def start(output, *argv, cwd="/", env=ENVIRONMENT):
    return start_child(argv, cwd=str(cwd), env=env, output=output.fileno())


def said(output):
    output.seek(0)
    return output.read().decode()


@pytest.mark.usefixtures("either_way")
def test_a_child_starts_in_its_folder_with_its_environment_alone(output, tmp_path):
    assert start(output, "sh", "-c", "pwd; echo $WORD ${HOME-none} >&2", cwd=tmp_path).wait() == 0
    assert said(output).splitlines() == [str(tmp_path), "said none"]


@pytest.mark.usefixtures("either_way")
def test_a_child_leads_a_session_and_inherits_no_descriptor(output):
    inherited = os.dup(output.fileno())
    os.set_inheritable(inherited, True)
    child = start(output, "sh", "-c", "read line; exec ls /proc/self/fd")
    os.close(inherited)
    assert os.getsid(child.pid) == child.pid
    assert child.wait() == 0
    assert said(output).split() == ["0", "1", "2", "3"]  # the last one is that of the folder


@pytest.mark.usefixtures("either_way")
def test_signals_that_python_ignores_end_a_child(output):
    assert start(output, "sh", "-c", "kill -PIPE $$").wait() == -signal.SIGPIPE


@pytest.mark.usefixtures("either_way")
def test_a_child_has_no_exit_code_while_it_runs(output):
    child = start(output, "sleep", "60")
    assert child.poll() is None
    child.kill()
    assert (child.wait(), child.poll(), child.wait()) == (-signal.SIGKILL,) * 3
    child.kill()  # a pid that may be another's by now is left alone


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("program", "error"),
    [("/no/program", FileNotFoundError), ("no-such-program", FileNotFoundError), ("/etc", PermissionError)],
    ids=["no file", "not on PATH", "a folder"],
)
def test_a_program_that_cannot_be_started_is_named(output, program, error):
    with pytest.raises(error) as raised:
        start(output, program)
    assert raised.value.filename == program


@pytest.mark.usefixtures("either_way")
def test_a_folder_that_does_not_exist_is_named(output, tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        start(output, "true", cwd=tmp_path / "gone")
    assert raised.value.filename == str(tmp_path / "gone")


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("argv", "env"), [(("true", "a\0b"), {}), (("true",), {"A": "\0"}), (("true",), {"A=B": "c"})]
)
def test_text_that_cannot_be_handed_over_is_an_error_of_its_own(output, argv, env):
    with pytest.raises(ValueError, match=r"null byte|environment variable"):
        start(output, *argv, env={**ENVIRONMENT, **env})


def test_a_file_on_the_path_that_may_not_be_run_is_passed_over(output, tmp_path):
    (tmp_path / "echo").write_text("")
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert start(output, "echo", "here", env=env).wait() == 0
    assert said(output) == "here\n"
    with pytest.raises(PermissionError):
        start(output, "echo", env={"PATH": str(tmp_path)})


def test_two_threads_may_wait_for_a_child_and_a_look_waits_for_neither(output):
    child = start(output, "sleep", "60")
    codes = []
    threads = [Thread(target=lambda: codes.append(child.wait())) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert child.poll() is None
    os.kill(child.pid, signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert codes == [-signal.SIGTERM] * 2


def test_of_a_child_that_somebody_else_has_reaped_the_end_is_not_known(output):
    child = start(output, "true")
    assert isinstance(child, SpawnedChild)
    os.waitpid(child.pid, 0)
    assert (child.poll(), child.wait()) == (0, 0)
