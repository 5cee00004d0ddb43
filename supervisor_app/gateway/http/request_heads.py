"""Heads of requests: read strictly, written anew. Nothing of a client's head reaches a server unread.

Parsed by httptools (llhttp). Before that come the rules on which parsers differ, because a difference
between two of them is what request smuggling lives on (RFC 9112, sections 2.2, 5.2, 6.3 and 11.2).
"""

from __future__ import annotations

import re
from base64 import b64decode
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

import httptools

from supervisor_app.gateway.http.heads import (
    DIGITS,
    HOP_BY_HOP,
    LISTS,
    BadHeadError,
    Fields,
    keeps_alive,
    without,
)
from supervisor_app.gateway.llama.conversations import conversation_in, of_key, query_of_key
from supervisor_app.gateway.llama.dialects import Dialect, dialect_of
from supervisor_app.gateway.llama.operations import About, Operation, operation_of

if TYPE_CHECKING:
    from collections.abc import Iterable

# A line break that is not CRLF, a folded line, a NUL, whitespace before a colon.
AMBIGUOUS = re.compile(rb"(?<!\r)\n|\r(?!\n)|\n[ \t]|\0|\n[^:\r\n]*[ \t]:")
REQUEST_LINE = re.compile(rb"[A-Z]{1,20} [\x21-\x7e]+ HTTP/1\.[01]\r\n")
# A fragment, which some cut off; an escape that is none, which some leave and others read as `%u0041`; a
# control character, at which some end the path.
ODD_PATH = re.compile(r"#|%(?![0-9A-Fa-f]{2})|%[01][0-9A-Fa-f]|%7[Ff]")
TLS_HANDSHAKE = b"\x16"
UPGRADE = re.compile(rb"(?im)^(?:upgrade|http2-settings):[^\r\n]*\r\n")
BODYLESS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
"""Methods for which a length of 0 needs no word."""
MAX_BEGINNINGS = 16
# Read by us, and written anew or not at all.
OURS = HOP_BY_HOP | {
    b"accept-encoding",
    b"authorization",
    b"content-length",
    b"cookie",  # of our own pages: a browser sends them to every port of a host
    b"expect",
    b"host",
    b"x-api-key",
}
ONCE = frozenset({b"content-length", b"expect", b"host", b"transfer-encoding"})
"""Twice they are an attack, or a broken proxy, whatever they say (RFC 9112, sections 3.2 and 6.3)."""
CONVERSATION = b"x-conversation-id"
NOTED = OURS | {
    b"access-control-request-headers",
    b"access-control-request-method",
    b"content-type",
    b"origin",
    b"sec-fetch-mode",
    b"sec-fetch-site",
    b"session",
    CONVERSATION,
}


@dataclass(slots=True, kw_only=True)
class RequestHead:
    """Head of a request without the length of the body: the same for all requests of its kind."""

    method: str
    path: str
    """Decoded, as the server reads it."""
    query: str
    target: bytes
    """Path and query as the client wrote them, and as they go on."""
    http11: bool
    keep_alive: bool
    chunked: bool
    expects_continue: bool
    presented_key: str
    """The API key as the client presented it; empty: there is none."""
    key_is_password: bool
    """The key came as a password, which browsers keep and send by themselves."""
    operation: Operation
    dialect: Dialect
    """API in whose words errors are told."""
    is_plain: bool
    """True for nearly all requests to a model: a POST, on a connection that goes on."""
    forwarded: list[bytes]
    """The lines that go on to the server, each with its CRLF."""
    noted: dict[bytes, bytes] = field(default_factory=dict)
    """Header fields that we read ourselves, by lower-case name."""
    _beginnings: dict[tuple[bytes, str], bytes] = field(default_factory=dict)

    @property
    def asks_for_streams(self) -> bool:
        """Is it about answers that are being made, or go on without their clients? One server has them."""
        return bool(self.conversation) or self.operation.about in (About.CONVERSATIONS, About.ANSWER)

    @property
    def conversation(self) -> str:
        """The name of the conversation whose stream it is about; empty: it is about none."""
        return conversation_in(self.query) if self.operation.about is About.CONVERSATION else ""

    def of_key(self, key: int) -> RequestHead:
        """Return the head as it goes to servers: about a conversation of this key, not of another's."""
        forwarded, noted = self.forwarded, self.noted
        if CONVERSATION in noted:
            conversation = of_key(key, self.text(CONVERSATION)).encode("latin-1")
            forwarded = [line for line in forwarded if not line.lower().startswith(CONVERSATION + b":")]
            forwarded.append(b"X-Conversation-Id: %b\r\n" % conversation)
            noted = {**noted, CONVERSATION: conversation}
        query, target = self.query, self.target
        if self.conversation:
            query = query_of_key(key, query)
            target = target.partition(b"?")[0] + b"?" + query.encode("ascii")
        return replace(self, forwarded=forwarded, noted=noted, query=query, target=target, _beginnings={})

    @property
    def names_conversation(self) -> bool:
        return CONVERSATION in self.noted or bool(self.conversation)

    def text(self, name: bytes) -> str:
        return self.noted.get(name, b"").decode("latin-1")

    def forwarded_text(self, name: bytes) -> str:
        """Return the value of a field that goes on as it came; `name` in lower case; empty: there is none."""
        beginning = name + b":"
        lines = (line for line in self.forwarded if line[: len(beginning)].lower() == beginning)
        return next(lines, b"").partition(b":")[2].strip().decode("latin-1")

    def as_written(self) -> bytes:
        """Return request line and fields as the client wrote them, those that we read first, in no order."""
        read = [name + b": " + value + b"\r\n" for name, value in self.noted.items() if name in OURS]
        line = b"%b %b HTTP/1.%d\r\n" % (self.method.encode(), self.target, self.http11)
        return b"".join([line, *read, *self.forwarded])

    def for_server(self, authority: bytes, api_key: str, length: int | None) -> bytes:
        """The head as the server gets it; `length` None: chunked."""
        beginning = self._beginnings.get((authority, api_key))
        if beginning is None:
            beginning = self._beginnings[authority, api_key] = self._beginning(authority, api_key)
            if len(self._beginnings) > MAX_BEGINNINGS:
                self._beginnings.clear()
        if length is None:
            return beginning + b"Transfer-Encoding: chunked\r\n\r\n"
        if length or self.method not in BODYLESS:
            return b"%bContent-Length: %d\r\n\r\n" % (beginning, length)
        return beginning + b"\r\n"

    def _beginning(self, authority: bytes, api_key: str) -> bytes:
        lines = [b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (self.method.encode(), self.target, authority)]
        lines += self.forwarded
        if self.method == "GET" and b"accept-encoding" in self.noted:
            # We read the token counts, which lie at the end of what it generates.
            lines.append(b"Accept-Encoding: %b\r\n" % self.noted[b"accept-encoding"])
        if api_key:
            lines.append(f"Authorization: Bearer {api_key}\r\n".encode("latin-1"))
        return b"".join(lines)


def read_request(raw: bytes) -> tuple[RequestHead, int | None]:
    """`raw` is a whole head with its empty line. Returns it with its body's length; None: chunked.

    Raises BadHeadError.
    """
    parser, fields = _parsed(raw)
    forwarded, noted = _sorted_fields(fields.fields)
    http11 = parser.get_http_version() == "1.1"
    if http11 and b"host" not in noted:
        raise BadHeadError(400, "The header Host is missing.")
    target = fields.target if fields.target[:1] == b"/" else _origin_form(fields.target)
    path, _, query = target.decode("ascii").partition("?")
    path = _decoded(path)
    length = _body_length(noted, http11=http11)
    keep_alive = keeps_alive(noted.get(b"connection", b""), http11=http11)
    noted.pop(b"content-length", None)  # the head is the same for any
    method = parser.get_method().decode("ascii")
    key, by_password = _presented_key(noted)
    operation = operation_of(method, path, query)
    head = RequestHead(
        method=method,
        path=path,
        query=query,
        target=target,
        http11=http11,
        keep_alive=keep_alive,
        chunked=length is None,
        expects_continue=http11 and noted.get(b"expect", b"").lower() == b"100-continue",
        presented_key=key,
        key_is_password=by_password,
        operation=operation,
        dialect=dialect_of(path),
        is_plain=method == "POST" and http11 and keep_alive and operation.is_passed_on,
        forwarded=forwarded,
        noted=noted,
    )
    return head, length


def check_beginning(raw: bytes) -> None:
    """`raw` is a head that has not come whole. Raises BadHeadError when no request can become of it."""
    if raw in (b"", b"\r"):  # of an empty line before it
        return
    if not raw[:1].isupper() or (b"\r\n" in raw and not REQUEST_LINE.match(raw)):
        raise _bad_request_line(raw)
    if raw.count(b"\n") > raw.count(b"\r\n"):
        raise _ambiguous()


def _parsed(raw: bytes) -> tuple[httptools.HttpRequestParser, Fields]:
    """Raises BadHeadError."""
    if not REQUEST_LINE.match(raw):
        raise _bad_request_line(raw)
    if AMBIGUOUS.search(raw):
        raise _ambiguous()
    fields = Fields()
    parser = httptools.HttpRequestParser(fields)
    try:
        # An upgrade is never made, and llhttp would stop at it.
        parser.feed_data(UPGRADE.sub(b"", raw))
    except httptools.HttpParserUpgrade:
        raise BadHeadError(400, "CONNECT is not understood.") from None
    except httptools.HttpParserError as error:
        raise BadHeadError(400, f"The head cannot be read: {error}") from error
    return parser, fields


def _presented_key(noted: dict[bytes, bytes]) -> tuple[str, bool]:
    """The key, and whether it is the password of `Basic`, whatever the name beside it."""
    scheme, _, token = noted.get(b"authorization", b"").partition(b" ")
    key = token.strip() if scheme.lower() == b"bearer" else b""
    key = key or noted.get(b"x-api-key", b"")
    if not key and scheme.lower() == b"basic":
        with suppress(ValueError):
            return b64decode(token.strip(), validate=True).partition(b":")[2].decode("latin-1"), True
    return key.decode("latin-1"), False


def _ambiguous() -> BadHeadError:
    return BadHeadError(
        400, "The head has a bare line break, a folded line, a NUL or a space before a colon."
    )


def _bad_request_line(raw: bytes) -> BadHeadError:
    if raw.startswith(TLS_HANDSHAKE):
        return BadHeadError(400, "This address speaks plain HTTP, not HTTPS.")
    line = raw.partition(b"\r\n")[0]
    if re.fullmatch(rb"[A-Z]+ \S+ HTTP/[0-9.]+", line) and not line.endswith((b"/1.0", b"/1.1")):
        return BadHeadError(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    return BadHeadError(400, f"{line[:100]!r} is not a request line.")


def _sorted_fields(fields: Iterable[tuple[bytes, bytes]]) -> tuple[list[bytes], dict[bytes, bytes]]:
    """Split fields into those passed on and those that we read.

    Raises BadHeadError for a second field of a name, unless it says the same: llama-server takes the first.
    """
    forwarded: list[bytes] = []
    noted: dict[bytes, bytes] = {}
    for name, value in fields:
        lower = name.lower()
        if lower in NOTED:
            if noted.get(lower) == value and lower not in ONCE:
                continue
            if lower in noted and lower not in LISTS:
                raise BadHeadError(400, f"The header {name.decode('latin-1')} comes twice.")
            noted[lower] = noted[lower] + b"," + value if lower in noted else value
            if lower in OURS:
                continue
        forwarded.append(name + b": " + value + b"\r\n")
    return without(noted.get(b"connection", b""), forwarded), noted


def _body_length(noted: dict[bytes, bytes], *, http11: bool) -> int | None:
    """Read the length of a body; None: chunked. Raises BadHeadError."""
    coding, length = noted.get(b"transfer-encoding"), noted.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise BadHeadError(400, "Content-Length and Transfer-Encoding contradict each other.")
        if coding.lower() != b"chunked" or not http11:
            raise BadHeadError(400, f"Transfer-Encoding: {coding[:40].decode('latin-1')} is not understood.")
        return None
    if length is None:
        return 0
    if not DIGITS.fullmatch(length):
        raise BadHeadError(400, f"Content-Length: {length[:40].decode('latin-1')} is not a length.")
    return int(length)


def _decoded(path: str) -> str:
    """Raises BadHeadError where not all servers would read the same."""
    if "%" not in path and "#" not in path:
        return path
    try:
        if not ODD_PATH.search(path):
            return unquote(path, errors="strict")
    except UnicodeDecodeError:
        pass
    raise BadHeadError(400, f"{path[:100]} can be read in more than one way.")


def _origin_form(target: bytes) -> bytes:
    """`http://host/path` as a server must take it, too. Raises BadHeadError."""
    if target == b"*":
        return b"/"
    match = re.fullmatch(rb"(?i:https?)://[^/?#]+(/[^#]*|\?[^#]*|)", target)
    if match is None:
        raise BadHeadError(400, f"{target[:100].decode('latin-1')} is not a path.")
    return match[1] if match[1].startswith(b"/") else b"/" + match[1]
