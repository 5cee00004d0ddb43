"""What is read of the database again, and what is known to be as it was."""

from __future__ import annotations

import threading

import pytest
from django.db import connection

from supervisor_app.common import database
from supervisor_app.common.database import Rows, Unchanged
from supervisor_app.fleet.models import LlamaServer
from tests.integration.building import make_key, make_server

pytestmark = pytest.mark.django_db(transaction=True)


class Reader:
    """Names of all servers, with a note of each time that they are read."""

    def __init__(self, beside=lambda: None) -> None:
        self.reads, self.now = 0, 0.0
        self.known = Unchanged(self._read, beside=beside, clock=lambda: self.now)

    def _read(self) -> list[str]:
        self.reads += 1
        return sorted(LlamaServer.objects.values_list("name", flat=True))

    def __call__(self) -> list[str]:
        return self.known()


def by_somebody_else(work) -> None:
    """In a thread of its own, which has a connection of its own."""

    def run() -> None:
        work()
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


@pytest.fixture
def reader():
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite tells whether it has changed")
    return Reader()


def test_an_unchanged_table_is_not_read_again(reader):
    make_server("one")
    assert [reader() for _ in range(5)] == [["one"]] * 5
    assert reader.reads == 1


def test_a_table_that_somebody_else_changed_is_read_again(reader):
    make_server("one")
    assert reader() == ["one"]
    by_somebody_else(lambda: make_server("two"))
    assert reader() == ["one", "two"]
    assert reader() == ["one", "two"]
    assert reader.reads == 2


def test_a_table_that_the_same_connection_changed_is_read_again(reader):
    make_server("one")
    assert reader() == ["one"]
    make_server("two")
    assert reader() == ["one", "two"]


def test_over_another_connection_all_is_read_again(reader):
    reader()
    connection.close()
    reader()
    assert reader.reads == 2


def test_a_value_beside_the_tables_counts_too(reader):
    files = ["a"]
    reader = Reader(beside=lambda: tuple(files))
    reader(), reader()
    assert reader.reads == 1
    files.append("b")
    reader(), reader()
    assert reader.reads == 2


def test_a_database_in_which_nobody_writes_any_more_is_read_each_time(reader):
    reader()
    reader.now = database.UNCHANGED_SECONDS - 0.1
    reader()
    assert reader.reads == 1
    for seconds in (0.0, 1.0, 2.0):
        reader.now = database.UNCHANGED_SECONDS + seconds
        reader()
    assert reader.reads == 4


def test_a_database_that_does_not_tell_is_read_each_time(reader, monkeypatch):
    monkeypatch.setattr(database, "_version", lambda: None)
    reader(), reader()
    assert reader.reads == 2


class Compared(Reader):
    """Reads names only when the rows that they are in have changed."""

    def __init__(self) -> None:
        super().__init__()
        rows = Rows(lambda: LlamaServer.objects.order_by("pk").values_list("name"))
        self.known = Unchanged(self._read, rows=rows, clock=lambda: self.now)


@pytest.fixture(params=[True, False])
def compared(request, monkeypatch):
    """With a database that tells whether it has changed, and with another."""
    if not request.param:
        monkeypatch.setattr(database, "_version", lambda: None)
    return Compared()


def test_a_change_elsewhere_is_no_reason_to_read_again(compared):
    make_server("one")
    assert compared() == ["one"]
    by_somebody_else(lambda: make_key("chat"))
    assert compared() == ["one"]
    assert compared.reads == 1


def test_other_rows_are_a_reason_to_read_again(compared):
    make_server("one")
    assert compared() == ["one"]
    by_somebody_else(lambda: make_server("two"))
    assert [compared(), compared()] == [["one", "two"]] * 2
    assert compared.reads == 2


def test_rows_are_not_trusted_for_ever(compared):
    compared()
    compared.now = database.TRUSTED_SECONDS - 0.1
    compared()
    assert compared.reads == 1
    compared.now = database.TRUSTED_SECONDS
    compared()
    assert compared.reads == 2


def test_a_read_that_failed_is_made_again(compared, monkeypatch):
    make_server("one")
    with monkeypatch.context() as broken:
        broken.setattr(compared.known, "_read", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            compared()
    assert compared() == ["one"]


def test_rows_are_asked_for_without_a_look_at_the_query_again():
    queries = []

    def query():
        queries.append(1)
        return LlamaServer.objects.filter(name="one").values_list("name")

    rows = Rows(query, lambda: LlamaServer.objects.filter(name="two").values_list("name"))
    assert rows() == [[], []]
    make_server("one")
    assert rows() == [[("one",)], []]
    assert len(queries) == 1
