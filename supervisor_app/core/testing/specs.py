"""Configurations and failures as tests want them: each of its parts has a default."""

from __future__ import annotations

from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.server_config import ServerConfig
from supervisor_app.core.spec import Claim, HealthPolicy, LaunchSpec, RestartPolicy
from supervisor_app.core.status import Failure, FailureKind


def make_spec(port: int = 8134, *, args: tuple[str, ...] = ("-m", "model.gguf")) -> LaunchSpec:
    return LaunchSpec(
        host="localhost", port=port, command=("llama-server",), args=args, model_path="model.gguf", cwd="/srv"
    )


def make_config(
    name: str = "default",
    *,
    spec: LaunchSpec | None = None,
    restart: RestartPolicy | None = None,
    health: HealthPolicy | None = None,
    desired_running: bool = True,
    generation: int = 1,
    restart_generation: int = 0,
    claim: Claim | None = None,
) -> ServerConfig:
    return ServerConfig(
        name=name,
        spec=spec or make_spec(),
        restart=restart or RestartPolicy(),
        health=health or HealthPolicy(),
        desired_running=desired_running,
        generation=generation,
        restart_generation=restart_generation,
        claim=claim or Claim(),
    )


def exited(detail: str = "with code 1") -> Failure:
    return failure_of(FailureKind.EXITED, detail)
