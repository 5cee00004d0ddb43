"""The diagnosis: from the end of a process and its last lines to one `Failure` in plain words. Pure.

llama-server exits with 1 for nearly everything, so the text has to tell the causes apart, and where it says
nothing, a look at the files that its command line names.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor_app.common.words import size
from supervisor_app.core.command_line.argv import spelled_out
from supervisor_app.core.diagnosis.decisive import Decisive, find_decisive, is_telling
from supervisor_app.core.diagnosis.engine_log import LogLine, own_words, read_log
from supervisor_app.core.diagnosis.explanations import CANNOT_RUN, LOG_HINT, MEMORY_HINT, failure_of
from supervisor_app.core.diagnosis.named_files import FILE_FLAGS, BadFile, flag_of, is_router
from supervisor_app.core.status import Failure, FailureKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.core.sightings import Exit
    from supervisor_app.core.spec import LaunchSpec

MAX_DETAIL = 300
"""Characters of a decisive line that are shown."""


# --- What it wrote -------------------------------------------------------------------------------------

_ADDRESS = re.compile(r"hostname[:=] ?(?P<host>\S*?),? port[:=] ?(?P<port>\d+)")
_SIZES: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"buffer of size (\d{1,18})"), 1),
    (re.compile(r"allocating (\d{1,12}(?:\.\d+)?) MiB"), 2**20),
    (re.compile(r"attempted to allocate +(\d{1,12}(?:\.\d+)?) MB"), 2**20),
)
_FLAGS_OF_MESSAGE = (
    ("MCP starting failed: ", ("--mcp-servers-config", "--mcp-servers-json")),
    (
        "init: failed to parse UI config: ",
        ("--ui-config-file", "--webui-config-file", "--ui-config", "--webui-config"),
    ),
    ("failed to initialize router models: ", ("--models-preset", "--models-dir")),
    ("static assets path not found: ", ("--path",)),
    ("error: the supplied chat template", ("--chat-template-file", "--chat-template")),
)
"""Messages about a flag that do not name it."""
_TLS_FLAGS = frozenset({"--ssl-key-file", "--ssl-cert-file"})
_TITLES_OF_OTHERS = {
    FailureKind.MODEL_MISSING: "A file that it needs is missing",
    FailureKind.MODEL_UNREADABLE: "A file that it needs is not readable",
    FailureKind.MODEL_CORRUPT: "A file that it needs is broken or incomplete",
    FailureKind.MODEL_UNSUPPORTED: "A file that it needs is not supported by this llama-server",
}
"""Titles of failures of another file than the model."""


def shown(message: str) -> str:
    """The message, fit for a page and a database."""
    # Unprintable includes NUL, which PostgreSQL refuses, and lone surrogates, which cannot be encoded.
    text = "".join(char if char.isprintable() else " " for char in message).strip()
    return text if len(text) <= MAX_DETAIL else text[: MAX_DETAIL - 1] + "…"


def _wanted(message: str) -> str:
    """The memory that the message asks for, as `5.1 GiB`; empty when it does not say."""
    for pattern, factor in _SIZES:
        if found := pattern.search(message):
            return size(float(found[1]) * factor)
    return ""


_REFUSED = re.compile(r"status code: (?:401|403|404)\b")
"""Answers of a network that works: there is no such model, or it is not for us."""


def _told(told: Decisive, spec: LaunchSpec | None, files: Sequence[BadFile]) -> Failure:
    """The failure that a decisive line tells."""
    message = shown(told.line.message)
    failure = failure_of(told.kind, message)
    match told.kind:
        case FailureKind.KILLED_BY_SIGNAL:
            return replace(failure, hint=_CRASH_HINT)
        case FailureKind.DOWNLOAD_FAILED:
            return replace(failure, permanent=bool(_REFUSED.search(message)))
        case FailureKind.PORT_TAKEN:
            return _not_bound(told.line.message, failure, files)
        case FailureKind.OUT_OF_MEMORY | FailureKind.GPU_OUT_OF_MEMORY if wanted := _wanted(
            told.line.message
        ):
            return replace(failure, detail=f"it needs {wanted} more ({message})")
        case FailureKind.BAD_ARGUMENT if spec is not None:
            return _about_flag(told, failure, spec)
        case kind if kind in _TITLES_OF_OTHERS and spec is not None:
            return _about_file(told, failure, spec)
        case _:
            return failure


def _not_bound(message: str, failure: Failure, files: Sequence[BadFile]) -> Failure:
    for bad in files:
        if bad.file.flag in _TLS_FLAGS:  # llama-server says the same of a key that it cannot read
            return failure_of_file(bad)
    if address := _ADDRESS.search(message):
        failure = replace(failure, detail=f"could not listen on {address['host']} port {address['port']}")
    # A port in use, an unknown host and a port that needs root all end with this line: the next look
    # at the port says which it is.
    return replace(failure, permanent=False)


def _about_flag(told: Decisive, failure: Failure, spec: LaunchSpec) -> Failure:
    """Name the flag that llama-server refused, and the file that the flag names."""
    flag, detail = told.flag, failure.detail
    for begin, flags in _FLAGS_OF_MESSAGE:
        if told.line.message.startswith(begin):
            flag = next((each for each in flags if each in spelled_out(spec.args)), "")
    if flag and flag not in detail:
        detail = f"{flag}: {detail}"
    path = told.path or _value_of_file_flag(flag, spec)
    if not path:
        return replace(failure, detail=detail)
    return replace(
        failure,
        detail=detail,
        hint=f"Check {flag or 'its flags'} and the file: it starts by itself when that file changes.",
        file=str(Path(spec.cwd, path)),
    )


def _value_of_file_flag(flag: str, spec: LaunchSpec) -> str:
    named = pairwise(spelled_out(spec.args))
    return next((value for name, value in named if name == flag and flag in FILE_FLAGS), "")


def _about_file(told: Decisive, failure: Failure, spec: LaunchSpec) -> Failure:
    """Name the file: the model, a part of it, or another file that is loaded like a model."""
    written = told.path or spec.model_path
    if not written:
        return failure
    detail = failure.detail
    if written not in told.line.message:
        detail = f"{detail} ({shown(written[-MAX_DETAIL:])})"
    file = Path(spec.cwd, written)
    return _of_file(replace(failure, detail=detail, file=str(file)), flag_of(spec, file), spec)


def _of_file(failure: Failure, flag: str, spec: LaunchSpec | None = None) -> Failure:
    """Say which file it is when it is not the model."""
    if flag not in ("", "-m"):
        title = _TITLES_OF_OTHERS.get(failure.kind, failure.title)
        hint = f"Check {flag} and the file: it starts by itself when that file is there and whole."
        return replace(failure, title=title, hint=hint)
    is_part = spec is not None and spec.model_file is not None and failure.file != str(spec.model_file)
    if flag == "-m" and is_part and failure.kind is FailureKind.MODEL_MISSING:
        return replace(failure, title="A part of the model is missing")
    return failure


def failure_of_file(bad: BadFile) -> Failure:
    """Make a failure of what a look at a file has shown, where llama-server did not say it."""
    failure = replace(failure_of(bad.kind, shown(f"{bad.file.flag}: {bad.detail}")), file=str(bad.file.path))
    if bad.file.flag == "-m":
        return replace(failure, detail=shown(bad.detail))
    return _of_file(failure, bad.file.flag)


# --- How it ended --------------------------------------------------------------------------------------

_CRASH_HINT = "A bug in llama.cpp or in a driver: if it comes again, update llama.cpp and read its log."
_KILL_HINT = "Usually the kernel's OOM killer, because memory ran out: look with `dmesg`. " + MEMORY_HINT
_SENT_HINT = "Somebody or something else on this machine ended it."
_SIGNALS: dict[int, tuple[str, str]] = {
    signal.SIGKILL: ("SIGKILL, without a word", _KILL_HINT),
    signal.SIGBUS: (
        "SIGBUS: the model file most likely changed, shrank or became unreadable under it",
        "Check the model file and its disk. Replace a model by renaming a new file over it.",
    ),
    signal.SIGSEGV: ("SIGSEGV: it crashed", _CRASH_HINT),
    signal.SIGABRT: ("SIGABRT: it crashed", _CRASH_HINT),
    signal.SIGILL: ("SIGILL: the processor lacks an instruction", "Install a llama.cpp built for it."),
    signal.SIGTERM: ("SIGTERM, sent by something else", _SENT_HINT),
    signal.SIGINT: ("SIGINT, sent by something else", _SENT_HINT),
    signal.SIGHUP: ("SIGHUP, sent by something else", _SENT_HINT),
}
_SENT = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Sent from outside: nothing that it wrote is the reason."""
_NOT_RUN = (126, 127)
"""Exit codes of a shell that cannot run or find a command: for a llama-server that is a script."""
_OF_A_SHELL = re.compile(
    r"(?:\S{0,300}/)?(?:env|\S{1,300}: (?:line )?\d+): (?:exec: )?['‘]?(?P<path>\S{1,300}?)['’]?: "
    r"(?:(?:command )?not found|No such file or directory|[Pp]ermission denied"
    r"|cannot execute|Exec format error)"
)


def signal_of(exit: Exit) -> int | None:  # noqa: A002
    """The signal that the process died of; a wrapping shell says 128 + signal instead."""
    if exit.signal is not None:
        return exit.signal
    if exit.code is not None and exit.code - 128 in _SIGNALS:
        return exit.code - 128
    return None


def _ended(exit: Exit, lines: Sequence[LogLine], was_ready: bool, spec: LaunchSpec | None) -> Failure:  # noqa: A002
    """The failure when no line tells the cause."""
    number = signal_of(exit)
    if number is not None:
        detail, hint = _SIGNALS.get(number, (f"signal {number}", LOG_HINT))
        return replace(failure_of(FailureKind.KILLED_BY_SIGNAL, detail), hint=hint)
    if exit.code is None:
        return failure_of(FailureKind.EXITED, "how it ended is unknown, because it was not started here")
    if exit.code == 0:
        return failure_of(FailureKind.EXITED, "it ended by itself with code 0")
    said = f"it ended with code {exit.code}"
    if was_ready:  # by then its log may hold the words of clients
        return failure_of(FailureKind.EXITED, said)
    if exit.code in _NOT_RUN:
        return _not_run(exit.code, lines, spec)
    # The first of llama-server's own errors; other lines may be anything.
    first = next((shown(line.message) for line in lines if line.is_error), "")
    return failure_of(FailureKind.UNKNOWN, f"{said}, its last words: {first}" if first else said)


def _not_run(code: int, lines: Sequence[LogLine], spec: LaunchSpec | None) -> Failure:
    """Explain a script that could not run its program, or its own interpreter."""
    told = next((found for line in reversed(lines) if (found := _OF_A_SHELL.match(line.text))), None)
    failure = failure_of(FailureKind.BINARY_MISSING, shown(told.string) if told else f"code {code}")
    script = spec.command[0] if spec is not None and spec.command else ""
    file = told["path"] if told and told["path"].startswith("/") else script
    return replace(
        failure,
        title=CANNOT_RUN,
        hint=f"Check {script or 'llama_server_binary'}: it is there, but not all that it needs.",
        file=str(Path(spec.cwd, file)) if spec is not None and file else "",
    )


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    failure: Failure
    decisive: LogLine | None = None
    """The line that tells the cause; None when none does."""


def diagnose(
    exit: Exit,  # noqa: A002
    lines: Sequence[str],
    *,
    was_ready: bool,
    spec: LaunchSpec | None = None,
    files: Sequence[BadFile] = (),
) -> Diagnosis:
    """Find out why a process ended without having been asked to.

    `lines` is the end of what it wrote, oldest first. Before it was ready that is of all that it wrote, and
    the first decisive line counts: the later ones are its consequences. After, it is only of what it wrote
    since it was last seen healthy, and the last one counts: what it survived is not what it died of. A
    signal, or a death after having been ready, is never permanent. `files` are those that we found unusable.
    """
    read = read_log(lines)
    decisive = None
    if exit.code != 0 and signal_of(exit) not in _SENT:
        router = spec is not None and is_router(spec.args)
        decisive = find_decisive(
            own_words(read, is_telling) if was_ready else read, last=was_ready, router=router
        )
    if decisive is not None:
        failure = _told(decisive, spec, files)
    elif files and exit.code and signal_of(exit) is None and exit.code not in _NOT_RUN and not was_ready:
        failure = failure_of_file(files[0])
    else:
        failure = _ended(exit, read, was_ready, spec)
    if was_ready or signal_of(exit) is not None:
        failure = replace(failure, permanent=False)
    return Diagnosis(failure=failure, decisive=decisive.line if decisive else None)
