"""Redis and PostgreSQL go away while a server crashes, and come back."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import requests

from tests.acceptance.conftest import ENGINE_ARGS
from tests.acceptance.faults.outage import KILLED, QUICK, admitted, check_that_all_is_well, killed
from tests.acceptance.harness import Proxy
from tests.acceptance.test_redis import NUDGES, Overheard, start_spread
from tests.deadline import DEADLINE
from tests.ports import free_port
from tests.postgres import Postgres, throwaway_cluster

if TYPE_CHECKING:
    from tests.acceptance.faults.checker import Patient

# --- Redis ---------------------------------------------------------------------------------------------


def crash(patient: Patient) -> None:
    """Pages hear of it from the database, up to five seconds late: perhaps only of its end."""
    psutil.Process(patient.pid).kill()
    patient.until_ready()


@pytest.fixture(scope="module")
def bereft(make_shared, engine, model):
    """Redis was killed, the server crashed, Redis came back; the sockets were open all the time."""
    proxy = make_shared(llama_model_path=str(model), llama_server_args=ENGINE_ARGS, **QUICK)
    redis = start_spread(proxy)
    with admitted(proxy) as patient:
        redis.process.kill()
        crash(patient)
        patient.without = proxy.console
        redis.start()
        patient.redis = redis
        yield patient


@pytest.mark.redis
def test_without_redis_supervision_goes_on(bereft):
    check_that_all_is_well(bereft)


@pytest.mark.redis
def test_without_redis_the_history_is_written(bereft):
    bereft.check_history(KILLED)


@pytest.mark.redis
def test_without_redis_the_console_says_so_once_and_calmly(bereft):
    assert bereft.without.count("The channel layer is away") == 1


@pytest.mark.redis
def test_when_redis_is_back_pushes_arrive_on_the_same_socket(bereft):
    deadline = time.monotonic() + DEADLINE
    with Overheard(bereft.redis) as overheard:
        arrived = False
        while not arrived:
            assert time.monotonic() < deadline, bereft.proxy.evidence()
            known = len(bereft.events.messages)
            crash(bereft)
            arrived = any(overheard.pushed(event) for event in bereft.events.messages[known:])


@pytest.mark.redis
def test_when_redis_is_back_nudges_arrive_again(bereft):
    with bereft.redis.client() as client:
        bereft.proxy.wait_for("it listens again", lambda: client.pubsub_numsub(NUDGES)[0][1])


@pytest.mark.redis
def test_without_redis_at_the_start_a_supervisor_supervises_and_shows(proxy):
    proxy.env["REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    proxy.start(web=False)
    proxy.start_web()
    proxy.wait_for_status("ready")
    assert 'data-status="ready"' in proxy.get("/").text


# --- PostgreSQL ----------------------------------------------------------------------------------------


class OnPostgres(Proxy):
    """A proxy with its database in `cluster`."""

    def __init__(self, directory: Any, cluster: Postgres, **config: Any) -> None:
        super().__init__(directory, **config)
        self.env["DATABASE_URL"] = cluster.url
        self._cluster = cluster

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of the database; none while it is away."""
        import psycopg

        try:
            return self._cluster.ask(sql, row_factory=psycopg.rows.dict_row)
        except psycopg.OperationalError:
            return []


@pytest.fixture(scope="module")
def databaseless(tmp_path_factory, engine, model):
    """PostgreSQL went away, the server crashed, PostgreSQL came back."""
    config = {"llama_model_path": str(model), "llama_server_args": ENGINE_ARGS, **QUICK}
    directory = tmp_path_factory.mktemp("on-postgres")
    with throwaway_cluster() as cluster, closing(OnPostgres(directory, cluster, **config)) as proxy:
        proxy.start().wait_for_line("[WEB]")
        with admitted(proxy) as patient:
            cluster.stop()
            try:
                killed(patient)
                patient.readiness = proxy.get("/readyz")
                proxy.wait_for_line("❌ [STORE]")
            finally:
                cluster.start()
            proxy.wait_for_line("[STORE] The database answers again")
            yield patient


def test_without_postgresql_the_server_recovers_and_pages_are_told(databaseless):
    check_that_all_is_well(databaseless)


def test_without_postgresql_the_web_is_not_ready_for_a_load_balancer(databaseless):
    assert databaseless.readiness.status_code == 503
    assert databaseless.readiness.text.startswith("database: ")


def test_without_postgresql_the_console_complains_once(databaseless):
    said = databaseless.proxy.said("Supervision goes on; the state is saved as soon as it can be.")
    assert len(said) == 1


def test_once_postgresql_is_back_the_history_is_complete(databaseless):
    databaseless.check_history(KILLED)


@pytest.fixture
def on_postgres(tmp_path):
    """A scripted server, ready, with its state in a PostgreSQL."""
    with (
        throwaway_cluster() as cluster,
        closing(OnPostgres(tmp_path, cluster, retry_backoff_ms=50)) as proxy,
    ):
        proxy.script()
        proxy.cluster = cluster
        proxy.start().wait_for_line("[WEB]")
        proxy.wait_for_status("ready")
        yield proxy


def test_a_database_that_hangs_holds_up_neither_a_crashed_server_nor_the_end(on_postgres):
    with on_postgres.events() as events:
        pid = events.wait_for_status("ready")["pid"]
        on_postgres.cluster.freeze()
        try:
            psutil.Process(pid).kill()
            after = events.wait_for_new_pid(pid)["pid"]
            assert requests.get(f"{on_postgres.gateway_url}/health", timeout=DEADLINE).ok
            assert on_postgres.stop() == 0
            assert not psutil.pid_exists(after)
        finally:
            on_postgres.cluster.thaw()
