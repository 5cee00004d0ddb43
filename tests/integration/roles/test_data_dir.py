"""The data directory is closed to other users, or refused."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from llamaproxy.data_dir import secured, secured_file
from tests.integration.building import let_everybody_in

CODE = Path(__file__).parents[3]
SOMEBODY_ELSE = 65534
LOOKS = 2000
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to another user")


@pytest.fixture
def data_dir(tmp_path):
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    return directory


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def made(path, permissions):
    path.write_text("something")
    path.chmod(permissions)
    return path


def test_a_directory_that_is_not_there_yet_is_left_to_its_maker(tmp_path):
    assert secured(tmp_path / "none") == []


def test_a_closed_one_needs_no_word(data_dir):
    made(data_dir / "secret-key", 0o600)
    assert secured(data_dir) == []


def test_an_open_one_is_closed_and_so_is_what_we_keep_in_it(data_dir):
    data_dir.chmod(0o755)
    ours = [made(data_dir / name, 0o664) for name in ("db.sqlite3", "db.sqlite3-wal", "node-local.lock")]
    logs = data_dir / "logs"
    logs.mkdir()
    logs.chmod(0o777)
    sentences = secured(data_dir)
    assert mode(data_dir) == mode(logs) == 0o700
    assert [mode(file) for file in ours] == [0o600] * 3
    assert f"{data_dir} was open to others (mode 755): closed." in sentences
    assert len(sentences) == 5
    assert secured(data_dir) == []


def test_a_new_secret_key_is_advised_when_others_could_read_the_old_one(data_dir):
    made(data_dir / "secret-key", 0o644)
    (sentence,) = secured(data_dir)
    assert "Delete it to make a new one" in sentence


def test_a_file_that_somebody_else_put_there_keeps_its_mode(data_dir):
    notes = made(data_dir / "notes.txt", 0o644)
    assert secured(data_dir) == []
    assert mode(notes) == 0o644


@as_root
@pytest.mark.parametrize("name", ["", "db.sqlite3", "secret-key", "logs"])
def test_a_file_of_another_user_is_refused(name, data_dir):
    theirs = data_dir / name
    if name:
        theirs.write_text("planted")
    os.chown(theirs, SOMEBODY_ELSE, SOMEBODY_ELSE)
    with pytest.raises(ImproperlyConfigured, match=f"{theirs} belongs to user {SOMEBODY_ELSE}"):
        secured(data_dir)


@as_root
def test_a_link_that_another_user_made_is_refused(data_dir, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(data_dir)
    os.lchown(link, SOMEBODY_ELSE, SOMEBODY_ELSE)
    with pytest.raises(ImproperlyConfigured, match=f"{link} belongs to user"):
        secured(link)


@as_root
def test_a_lock_that_another_user_made_is_removed(data_dir):
    lock = made(data_dir / "node-local.lock", 0o644)
    os.chown(lock, SOMEBODY_ELSE, SOMEBODY_ELSE)
    assert secured(data_dir) == [f"{lock} belonged to somebody else: removed."]
    assert not lock.exists()


def _is_refused(directory):
    try:
        secured(directory)
    except ImproperlyConfigured:
        return 1
    return 0


@as_root
@pytest.mark.parametrize(("permissions", "accepted"), [(0o770, True), (0o755, True), (0o1777, False)])
def test_directories_of_root_that_anybody_may_write_to_are_refused(permissions, accepted, tmp_path):
    """As volumes of containers are: their group is ours, their owner is root."""
    directory = tmp_path / "volume"
    directory.mkdir()
    let_everybody_in(tmp_path)
    directory.chmod(permissions)
    child = os.fork()
    if child == 0:
        code = 2
        with suppress(BaseException):
            os.setuid(SOMEBODY_ELSE)
            code = _is_refused(directory)
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (0 if accepted else 1)


@pytest.mark.parametrize(
    "secure", [lambda data_dir: secured(data_dir), lambda d: secured_file(d / "db.sqlite3")]
)
def test_a_journal_that_goes_meanwhile_is_no_trouble(secure, data_dir):
    """The last process that used the database removes it."""
    journal, over = data_dir / "db.sqlite3-shm", threading.Event()

    def come_and_go():
        while not over.is_set():
            journal.touch(0o600)
            journal.unlink()

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        assert [secure(data_dir) for _ in range(LOOKS)] == [[]] * LOOKS
    finally:
        over.set()
        other.join()


def test_a_database_elsewhere_is_closed_with_its_journal(tmp_path):
    files = [made(tmp_path / name, 0o644) for name in ("db.sqlite3", "db.sqlite3-wal")]
    assert len(secured_file(tmp_path / "db.sqlite3")) == 2
    assert [mode(file) for file in files] == [0o600, 0o600]


def manage(*arguments, data_dir):
    environment = {"PATH": os.environ["PATH"], "LLAMAPROXY_DATA_DIR": str(data_dir)}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=CODE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        umask=0o022,
    )


def test_all_that_a_command_makes_is_its_user_s_alone(tmp_path):
    data_dir = tmp_path / "new"
    assert manage("migrate", "--verbosity", "0", data_dir=data_dir).returncode == 0
    with sqlite3.connect(data_dir / "db.sqlite3") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert mode(data_dir) == 0o700
    assert {entry.name: oct(mode(entry)) for entry in data_dir.iterdir() if mode(entry) & 0o077} == {}


def test_a_mended_mode_is_told_on_the_console(data_dir):
    data_dir.chmod(0o755)
    ran = manage("check", data_dir=data_dir)
    assert ran.returncode == 0
    assert f"{data_dir} was open to others (mode 755): closed." in ran.stdout + ran.stderr


@as_root
def test_a_directory_of_another_user_is_one_line_and_code_2(data_dir):
    os.chown(data_dir, SOMEBODY_ELSE, SOMEBODY_ELSE)
    ran = manage("check", data_dir=data_dir)
    assert ran.returncode == 2
    assert len(ran.stderr.splitlines()) == 1
    assert "Run llamaproxy as its owner" in ran.stderr
