"""Several workers that count together: who is asked tells the sum, and never less than before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from supervisor_app.gateway.llama.usage import Usage
from supervisor_app.gateway.records.metrics import GatewayMetrics
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.workers import shared_counts as shared
from supervisor_app.gateway.workers.shared_counts import FRESH_SECONDS, SharedCounts
from tests.unit.gateway.test_metrics import record, samples


@pytest.fixture
def start(tmp_path):
    """The worker of this number, also one that replaces another."""

    def start_it(number):
        counts = SharedCounts(tmp_path / f"{number}.json")
        return GatewayMetrics(id_of=lambda server, model: "qwen3", shared=counts)

    return start_it


def told(worker, name, load=()):
    """The sum of what a worker tells when it is scraped."""
    found = samples(worker.render(worker.load_of(load)))
    return sum(value for _, value in found.get(name, ()))


def counted(worker):
    return told(worker, "llamaproxy_requests_total")


def serve(worker, times=1, **fields):
    for _ in range(times):
        worker.observe(record(**fields))


def test_a_scraped_worker_tells_the_sum_of_all(start):
    one, two = start(1), start(2)
    usage = Usage(prompt_tokens=100, cached_tokens=60, generated_tokens=20)
    for worker, times in ((one, 1), (two, 8)):
        serve(worker, times, outcome=Outcome.REPLAYED, replays=2, usage=usage)
        worker.save({})
    assert one.render({}) == two.render({})
    assert samples(one.render({}))["llamaproxy_requests_total"] == [
        ({"server": "default", "model": "qwen3", "outcome": "replayed"}, 9)
    ]
    assert {name: told(one, f"llamaproxy_{name}") for name in ("tokens_total", "replays_total")} == {
        "tokens_total": 9 * 180,
        "replays_total": 18,
    }


def test_histograms_are_added_bucket_by_bucket(start):
    one, two = start(1), start(2)
    serve(one, duration_ms=200, ttft_ms=None)
    serve(two, duration_ms=4000, ttft_ms=30)
    two.save({})
    found = samples(one.render({}))
    duration = found["llamaproxy_request_duration_seconds_bucket"]
    assert [value for labels, value in duration if labels["le"] in ("0.1", "0.25", "2.5", "5.0", "+Inf")] == [
        0,
        1,
        1,
        2,
        2,
    ]
    assert told(one, "llamaproxy_request_duration_seconds_sum") == pytest.approx(4.2)
    assert told(one, "llamaproxy_request_ttft_seconds_count") == 1


def test_a_sum_does_not_hang_on_the_order_in_which_the_files_are_found(start, tmp_path, monkeypatch):
    """0.1 + 0.2 + 0.3 is more than 0.3 + 0.2 + 0.1."""
    workers = [start(number) for number in (1, 2, 3)]
    for tenths, worker in enumerate(workers, 1):
        serve(worker, duration_ms=100 * tenths)
        worker.save({})
    found = sorted(tmp_path.iterdir())
    sums = set()
    for order in (found, found[::-1]):
        monkeypatch.setattr(Path, "glob", lambda directory, pattern, order=order: iter(order))
        sums.add(told(workers[0], "llamaproxy_request_duration_seconds_sum"))
    assert len(sums) == 1


def test_counts_of_one_worker_are_told_by_the_others(start):
    """Also what it had counted just before it was asked."""
    one, two = start(1), start(2)
    for _ in range(3):
        serve(one)
        before = counted(one)
        assert counted(two) == before


def test_a_worker_that_was_killed_takes_with_it_only_what_nobody_was_told(start):
    killed, other = start(1), start(2)
    serve(killed, 5)
    assert counted(killed) == 5
    serve(killed, 3)
    del killed
    assert counted(other) == 5


def test_a_worker_that_replaces_another_goes_on_with_its_counts(start):
    serve(first := start(1), 5)
    first.save({})
    second, other = start(1), start(2)
    assert counted(other) == 5
    serve(second, 2)
    assert counted(second) == counted(other) == 7


def test_requests_in_flight_at_all_workers_are_added(start):
    one, two = start(1), start(2)
    two.save(two.load_of([("default", "qwen3", 3, 1)]))
    load = [("default", "qwen3", 1, 2)]
    assert told(one, "llamaproxy_requests_in_flight", load) == 4
    assert told(one, "llamaproxy_requests_held", load) == 3


def test_a_silent_worker_has_nothing_in_flight_but_keeps_its_counts(start, monkeypatch):
    silent, other = start(1), start(2)
    serve(silent, 2)
    silent.save(silent.load_of([("default", "qwen3", 3, 1)]))
    now = shared.monotonic()
    monkeypatch.setattr(shared, "monotonic", lambda: now + FRESH_SECONDS)
    load = [("default", "qwen3", 1, 0)]
    assert told(other, "llamaproxy_requests_in_flight", load) == 1
    assert counted(other) == 2


OTHER_BOUNDS = {
    "at": 0,
    "load": [],
    "counts": [["default", "qwen3", "ok", [[1, 0, 0, 0, 0], [[1, 2], 0.5], [[0, 0], 0.0]]]],
}


@pytest.mark.parametrize(
    "content",
    ["", "nothing", "[]", "{}", '{"at": 1, "load": 1, "counts": 1}', json.dumps(OTHER_BOUNDS), "\ud800"],
)
def test_a_file_that_another_version_wrote_counts_nothing(start, tmp_path, content):
    (tmp_path / "1.json").write_text(content, errors="surrogatepass")
    serve(replaced := start(1))
    (tmp_path / "3.json").write_text(content, errors="surrogatepass")
    assert counted(replaced) == 1


def test_a_file_that_cannot_be_read_for_a_moment_makes_no_counter_fall(start, monkeypatch):
    one, two = start(1), start(2)
    serve(two, 3)
    two.save({})
    assert counted(one) == 3

    def no_descriptor_left(path):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", no_descriptor_left)
        assert counted(one) == 3


def test_a_file_that_is_being_written_is_not_read(start, tmp_path):
    serve(worker := start(1))
    worker.save({})
    (tmp_path / "2.new").write_bytes((tmp_path / "1.json").read_bytes())
    assert counted(worker) == 1


def test_a_failure_to_write_is_told_once_and_when_it_is_over(start, tmp_path, caplog):
    (tmp_path / "1.new").mkdir()
    serve(worker := start(1))
    assert [counted(worker), counted(worker)] == [0, 0]
    (message,) = caplog.messages
    assert message.startswith("⚠️ [GATEWAY] Metrics stand still: ")
    (tmp_path / "1.new").rmdir()
    assert counted(worker) == 1
    (tmp_path / "1.new").mkdir()
    worker.save({})
    assert caplog.messages == [message, "✅ [GATEWAY] Metrics move again", message]


def test_the_last_one_clears_up(start, tmp_path):
    directory = tmp_path / "counts"
    directory.mkdir()
    files = [SharedCounts(directory / f"{number}.json") for number in (1, 2, 3)]
    for each in files[:2]:
        each.save({}, {})
    for name in ("board", "suspects"):  # what they share besides
        (directory / name).touch()
    files[0].forget()
    assert (directory / "board").exists()
    files[1].forget()
    assert not directory.exists()
    files[2].forget()  # which had nothing to say yet
