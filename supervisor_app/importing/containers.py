"""llama-server in a container: what of that is so on the host, too. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from supervisor_app.importing.flags import server_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from supervisor_app.importing.found import Server

LLAMA = re.compile(r"llama[._-]?cpp|llama-server", re.IGNORECASE)
PUBLISHED = re.compile(r"(?:(?P<host>[\d.]+|\[[\da-fA-F:]+\]):)?(?P<ours>\d+):(?P<theirs>\d+)(?:/tcp)?")
PORT = 8080
"""Port at which llama-server listens unless it is told otherwise."""
EVERYWHERE = "0.0.0.0"  # noqa: S104  (what a published port without an address is)
_IMAGE = re.compile(r"[\w.-]+(?:/[\w.-]+)+(?::[\w.-]+)?")
_HERE = re.compile(r"^\$(?:\(pwd\)|PWD\b|\{PWD\})")
_GPUS = re.compile(r"""["']*device=([\w,-]+)["']*""")
_OPTIONS = {
    "-v": "volume",
    "--volume": "volume",
    "-e": "env",
    "--env": "env",
    "-p": "port",
    "--publish": "port",
    "--mount": "mount",
    "--env-file": "env file",
    "--gpus": "gpus",
}


class Volume(NamedTuple):
    """A directory of this host, and its path in the container."""

    ours: str
    theirs: str


def volume_of(text: str) -> Volume:
    ours, theirs = [*_HERE.sub(".", text).split(":"), ""][:2]
    return Volume(ours.rstrip("/"), theirs.rstrip("/"))


def map_paths(server: Server, volumes: Sequence[Volume]) -> None:
    """Say paths as this host has them. Named volumes are directories of Docker alone."""

    def mapped(path: str) -> str:
        for ours, theirs in volumes:
            if theirs and (path == theirs or path.startswith(f"{theirs}/")):
                if ours[:1] not in ("/", ".", "~", "$"):
                    server.remarks.append(
                        f"{path} is in Docker's volume {ours}: copy the file, and write where it is."
                    )
                    return path
                return ours + path.removeprefix(theirs)
        return path

    for key in ("model_path", "models_dir"):
        if key in server.values:
            server.values[key] = mapped(server.values[key])
    if "args" in server.values:
        server.values["args"] = [mapped(word) for word in server.values["args"]]


def publish(server: Server, host: str, ours: int, theirs: int) -> None:
    """Listen where a port of the container was published, if it is the server's."""
    if theirs == server.values.get("port", PORT):
        server.values["port"], server.values["host"] = ours, host.strip("[]") or EVERYWHERE


def image_at(words: Sequence[str]) -> int | None:
    """Return the place of llama.cpp's image in a command line of `docker run`; None if that is none."""
    if len(words) < 2 or words[0].rpartition("/")[2] not in ("docker", "podman") or words[1] != "run":
        return None
    images = (at for at, word in enumerate(words) if _IMAGE.fullmatch(word) and LLAMA.search(word))
    return next(images, None)


def server_of_run(name: str, where: str, words: Sequence[str], image: int) -> Server:
    """Return the server of `docker run … IMAGE FLAGS`. Raises ImportMistakeError."""
    options = list(_options(words[:image]))
    environment = dict(value.split("=", 1) for kind, value in options if kind == "env" and "=" in value)
    flags = [word for word in words[image + 1 :] if word != "--server"]
    server = server_of(name, where, flags, environment)
    volumes = [volume_of(value) for kind, value in options if kind == "volume"]
    map_paths(server, [*volumes, *(_mount_of(value) for kind, value in options if kind == "mount")])
    _take_more(server, options)
    published = [PUBLISHED.fullmatch(value) for kind, value in options if kind == "port"]
    inside = server.values.get("port", PORT)
    server.values.pop("host", None)
    for match in filter(None, published):
        publish(server, match["host"] or "", int(match["ours"]), int(match["theirs"]))
    if not any(match and int(match["theirs"]) == inside for match in published):
        server.values.pop("port", None)
    server.remarks.append(
        f"It ran in a container of {words[image]}, whose llama-server is not taken along: install one, or "
        "name its path in [engines.NAME]."
    )
    return server


def _mount_of(text: str) -> Volume:
    said = dict(part.partition("=")[::2] for part in text.split(","))
    theirs = said.get("target") or said.get("dst") or said.get("destination", "")
    return volume_of(f"{said.get('source') or said.get('src', '')}:{theirs}")


def _take_more(server: Server, options: Sequence[tuple[str, str]]) -> None:
    for kind, value in options:
        if kind == "env file":
            server.remarks.append(f"--env-file {value}: write its variables into environment.")
        elif kind == "gpus" and (named := _GPUS.fullmatch(value)):
            server.environment.setdefault("CUDA_VISIBLE_DEVICES", named[1])


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word, after in zip(words, [*words[1:], ""], strict=True):
        flag, equals, value = word.partition("=")
        if kind := _OPTIONS.get(flag):
            yield kind, value if equals else after
