"""A failure that must not end anything is logged once with its traceback, and once that it is over."""

from __future__ import annotations

import logging

import pytest

from supervisor_app.common.console import ConsoleFormatter
from supervisor_app.common.outage import MOST, Outage, is_away

log = logging.getLogger("supervisor_app.test_outage")


@pytest.fixture
def outage(caplog):
    caplog.set_level(logging.DEBUG, log.name)
    return Outage(log, "⚠️ [HUB] Pages may be late: {error}", "✅ [HUB] Pages are up to date again")


def fail(outage, error):
    try:
        raise error
    except Exception as raised:
        outage.failed(raised)


def said(caplog):
    return [record.message for record in caplog.records if record.levelno >= logging.INFO]


def news(caplog):
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_each_distinct_error_is_told_once_with_its_traceback(outage, caplog):
    for error in (ValueError("a"), ValueError("a"), ValueError("b"), KeyError("a")):
        fail(outage, error)
    assert [record.message for record in news(caplog)] == [
        "⚠️ [HUB] Pages may be late: ValueError: a",
        "⚠️ [HUB] Pages may be late: ValueError: b",
        "⚠️ [HUB] Pages may be late: KeyError: 'a'",
    ]
    assert all(record.exc_info for record in news(caplog))
    assert len(caplog.records) == 4, "the fourth is there for whoever debugs"


def test_a_message_that_differs_in_a_number_is_no_other_one(outage, caplog):
    for number in range(5):
        fail(outage, ValueError(f"connection {number} was reset"))
    assert len(news(caplog)) == 1


def test_a_message_that_differs_each_time_does_not_fill_the_log(outage, caplog):
    for number in range(MOST + 10):
        fail(outage, ValueError("x" * number))
    assert len(news(caplog)) == MOST


def test_the_end_of_an_outage_is_told_once(outage, caplog):
    outage.over()
    assert not outage.lasts
    fail(outage, ValueError("a"))
    fail(outage, ValueError("b"))
    assert outage.lasts
    outage.over()
    outage.over()
    assert not outage.lasts
    assert said(caplog)[2:] == ["✅ [HUB] Pages are up to date again"]


def test_an_outage_whose_end_another_line_tells_ends_in_silence(caplog):
    outage = Outage(log, "⚠️ [GATEWAY] {reason}. It starts as soon as it can.", None)
    fail(outage, ValueError("No database"))
    outage.over()
    assert said(caplog) == ["⚠️ [GATEWAY] No database. It starts as soon as it can."]
    assert not outage.lasts


@pytest.mark.parametrize(
    ("sentence", "error", "told"),
    [
        ("Late: {error}", ValueError("no {reason}"), "Late: ValueError: no {reason}"),
        ("Late: {reason}", ValueError("no {reason}"), "Late: no {reason}"),
        ("Late: {error}", TimeoutError(), "Late: TimeoutError"),
        ("Late: {reason}", TimeoutError(), "Late: TimeoutError"),
        ("A mistake.", ValueError("no"), "A mistake."),
    ],
)
def test_a_sentence_says_of_the_error_what_it_asks_for(sentence, error, told, caplog):
    Outage(log, sentence, None, level=logging.ERROR).failed(error)
    (record,) = caplog.records
    assert (record.message, record.levelname) == (told, "ERROR")


def test_errors_of_what_is_away_are_one_error_in_many_words(outage, caplog):
    stored = ValueError("The database failed")
    stored.__cause__ = ConnectionResetError("reset")
    for error in (ConnectionResetError("closed by server"), ConnectionRefusedError("refused"), stored):
        fail(outage, error)
    fail(outage, ZeroDivisionError("a mistake"))
    assert [message.partition(": ")[2] for message in said(caplog)] == [
        "ConnectionResetError: closed by server",
        "ZeroDivisionError: a mistake",
    ]


def test_a_failure_after_a_success_is_news_again(outage, caplog):
    fail(outage, ValueError("a"))
    outage.over()
    fail(outage, ValueError("a"))
    assert len(news(caplog)) == 2


def test_an_error_without_words_has_its_name(outage, caplog):
    fail(outage, TimeoutError())
    assert news(caplog)[0].message.endswith(": TimeoutError")


def test_the_console_shows_a_line_without_traceback_for_what_is_away(outage, caplog):
    fail(outage, ConnectionRefusedError(111, "Connection refused"))
    fail(outage, ZeroDivisionError("a mistake"))
    away, mistake = map(ConsoleFormatter().format, news(caplog))
    assert "Traceback" not in away
    assert "Traceback" in mistake
    assert news(caplog)[0].exc_info


@pytest.mark.parametrize(
    ("module", "away"),
    [
        ("redis.exceptions", True),
        ("channels.exceptions", True),
        ("django.db.utils", True),
        ("channels.consumer", False),
        ("redistribution", False),
    ],
)
def test_a_service_that_is_away_is_known_by_the_module_of_its_error(module, away):
    assert is_away(type("Error", (Exception,), {"__module__": module})()) is away
