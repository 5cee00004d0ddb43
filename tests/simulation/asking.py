"""What clients send, by chance: mostly the same again, as a program does, now and then what nobody should send."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.chance import Chance

PATHS = [
    *["/v1/embeddings"] * 4,
    "/v1/chat/completions",
    "/tokenize",
    "/tools",
    "/v1/completions",
    "/health",
    "/v1/embeddings?model=a",
]
KEYS = "abcabcabcd"
"""Their names; nobody knows the last one."""
RARELY = 20.0
"""So much more seldom does a calm client send something odd."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What all clients and servers of one seed have in common."""

    models: tuple[str, ...]
    """That clients name."""
    has_keys: bool
    has_large_bodies: bool
    calm: float
    """How probable it is that a server does nothing out of the ordinary."""


@dataclass(slots=True, kw_only=True)
class _Draft:
    """A request before it is spelt."""

    ident: str
    path: str
    lines: list[str]
    body: dict[str, object]
    method: str = "POST"
    version: str = "1.1"


class Habits:
    """What the requests of one client have in common."""

    def __init__(self, chance: Chance, client: int, scene: Scene) -> None:
        self._chance = chance
        self._client = client
        self._scene = scene
        self._path = chance.choice(PATHS)
        self._lines = [f"Authorization: Bearer lp-{chance.choice(KEYS)}"] if scene.has_keys else []
        if chance.hits(0.3):
            self._lines.append("Content-Type: application/json")
        if chance.hits(0.1):
            self._lines.append("Session: s")
        if chance.hits(0.05):
            self._lines.append("X-Long: " + "y" * 5000)
        self._place = chance.randrange(0, len(self._lines) + 1)
        """Of the length, among the other lines."""
        self._length = chance.choice(["Content-Length", "Content-Length", "content-length"])
        self._is_calm = chance.hits(0.7)

    def requests(self) -> list[bytes]:
        return [self._request(number) for number in range(self._chance.randrange(1, 40))]

    def _request(self, number: int) -> bytes:
        chance = self._chance
        ident = f"id-{self._client}-{number}"
        draft = _Draft(ident=ident, path=self._path, lines=list(self._lines), body=self._body(ident))
        oddity = chance.one_of(ODDITIES, RARELY if self._is_calm else 1.0)
        if oddity is not None:
            oddity(draft, chance)
        return self._spelt(draft)

    def _body(self, ident: str) -> dict[str, object]:
        chance, path = self._chance, self._path
        sizes = [0, 3, 50, 500, 1500, 3000, *([90_000, 300_000] if self._scene.has_large_bodies else [])]
        body: dict[str, object] = {"input": f"{ident} {'w' * chance.choice(sizes)}"}
        model = chance.choice([*self._scene.models, None])
        if model is not None:
            body["model"] = model
        if "chat" in path:
            body["messages"] = [{"role": "user", "content": ident}]
            body["max_tokens"] = chance.choice([5, 100, 256, 257, 1000])
        elif "completions" in path:
            body["prompt"] = chance.choice([ident, ["a"], ["a", "b"], [1, 2]])
        return body

    def _spelt(self, draft: _Draft) -> bytes:
        chance, lines = self._chance, draft.lines
        content = _content(draft, chance)
        if draft.method != "POST" and chance.hits(0.7):
            content = b""
        elif chance.hits(0.04):
            lines.insert(self._place, "Transfer-Encoding: chunked")
            chunk = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
            content = chunk + b"0\r\n\r\n"
        else:
            length = chance.one_of(LENGTHS, 8.0 if self._is_calm else 1.0) or str
            lines.insert(self._place, f"{self._length}: {length(len(content))}")
        head = [f"{draft.method} {draft.path} HTTP/{draft.version}", "Host: localhost", *lines, "", ""]
        raw = "\r\n".join(head).encode() + content
        if chance.hits(0.01):
            raw = b"\r\n" + raw
        if chance.hits(0.01):
            raw = raw.replace(b"\r\nHost", b"\nHost", 1)
        return raw


def _content(draft: _Draft, chance: Chance) -> bytes:
    content = json.dumps(draft.body).encode()
    if chance.hits(0.03):
        content = b""
    if chance.hits(0.02):
        content = b'{"input": "%b", "model": "b", "model": "a"}' % draft.ident.encode()
    if chance.hits(0.02):
        content = b"\xef\xbb\xbf" + content
    if chance.hits(0.02):  # a request of somebody else's, if the length were ever lost
        content += b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    return content


# What is odd about some


def _stream(draft: _Draft, chance: Chance) -> None:
    draft.body["stream"] = True


def _several_answers(draft: _Draft, chance: Chance) -> None:
    draft.body["n"] = 2


def _other_path(draft: _Draft, chance: Chance) -> None:
    draft.path = chance.choice(["/health", "/tokenize", "/v1/models", f"/props?{draft.ident}", "/metrics"])


def _other_method(draft: _Draft, chance: Chance) -> None:
    draft.method = chance.choice(["GET", "HEAD", "OPTIONS", "DELETE"])
    draft.path = f"/props?{draft.ident}"


def _old_version(draft: _Draft, chance: Chance) -> None:
    draft.version = "1.0"


def _old_version_kept_alive(draft: _Draft, chance: Chance) -> None:
    draft.version = "1.0"
    draft.lines.append("Connection: keep-alive")


def _line(line: str) -> Callable[[_Draft, Chance], None]:
    def add(draft: _Draft, chance: Chance) -> None:
        draft.lines.append(line)

    return add


ODDITIES: list[tuple[float, Callable[[_Draft, Chance], None]]] = [
    (0.05, _stream),
    (0.02, _several_answers),
    (0.02, _other_path),
    (0.02, _other_method),
    (0.01, _old_version),
    (0.01, _old_version_kept_alive),
    (0.01, _line("Connection: close")),
    (0.02, _line("X-Other: 1")),
    (0.01, _line("Expect: 100-continue")),
    (0.01, _line("Content-Length: 3")),
    (0.01, _line("Host: other")),
    (0.01, _line("Origin: http://evil.example")),
    (0.01, _line("X Bad: 1")),
]
LENGTHS: list[tuple[float, Callable[[int], str]]] = [
    (0.03, lambda size: f"00{size}"),
    (0.01, lambda size: f"+{size}"),
    (0.01, lambda size: f"{size} "),
    (0.01, lambda size: f"{'0' * 20}{size}"),
    (0.005, lambda size: str(size - 1)),
    (0.005, lambda size: str(size + 1)),
]
"""Ways to spell one that are odd or wrong."""
