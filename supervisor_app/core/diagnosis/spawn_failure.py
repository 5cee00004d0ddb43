"""Why a program could not be started: from the number of the error and a look at what lies on the disk.

"No such file or directory" is said of a script, too, whose interpreter is missing, and of a program that was
built for another system: of those it must not be said that they are not there.
"""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from supervisor_app.core.diagnosis.explanations import CANNOT_RUN, failure_of
from supervisor_app.core.status import Failure, FailureKind

_HEAD = 256
"""Bytes: the kernel reads no more of the first line of a script."""
_EXPLAINED = {
    errno.EACCES: (
        "it may not be run",
        "Make it executable (`chmod +x`), and the folders above it open to the user of llamaproxy; a disk "
        "that is mounted with noexec runs nothing.",
    ),
    errno.EPERM: (
        "the system does not permit to run it",
        "Look at the rights of the program and of llamaproxy.",
    ),
    errno.ENOEXEC: (
        "it is no program for this machine",
        "Install a llama.cpp for this processor; a script needs a first line such as `#!/bin/sh`.",
    ),
    errno.EISDIR: ("it is a folder", "Name the program itself in llama_server_binary."),
    errno.ELOOP: ("its links lead in a circle", "Mend the link, or name the program itself."),
    errno.ELIBBAD: ("it or its loader is broken", "Reinstall llama.cpp."),
}


@dataclass(frozen=True, kw_only=True)
class Program:
    """The program that is to be started, as it lies on the disk."""

    path: Path
    exists: bool = False
    interpreter: str = ""
    """Interpreter of a script, by its first line."""
    interpreter_exists: bool = False


def look_at_program(command: str, cwd: Path) -> Program:
    """Look at the program of a command. May block for as long as a disk does."""
    path = Path(cwd, command if "/" in command else shutil.which(command) or command)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return Program(path=path, exists=path.exists())
    first = head.partition(b"\n")[0] if head.startswith(b"#!") else b""
    words = first.removeprefix(b"#!").replace(b"\t", b" ").split(b" ")
    interpreter = next((word.decode(errors="replace") for word in words if word), "")
    return Program(
        path=path,
        exists=True,
        interpreter=interpreter,
        interpreter_exists=bool(interpreter) and Path(interpreter).exists(),
    )


def why_no_engine(problem: str, none_at_all: str) -> Failure:
    """The failure of a start without an engine. `problem`: what is wrong with the one that is named."""
    if not problem:
        return failure_of(FailureKind.BINARY_MISSING, none_at_all)
    hint = "Write that table, or choose another engine in its configuration: it starts by itself then."
    failure = failure_of(FailureKind.BINARY_MISSING, problem)
    return replace(failure, title="Its engine is not described", hint=hint)


def why_not_started(error: OSError, program: Program, cwd: Path) -> Failure:
    """The failure in plain words. `cwd`: where it was to be started."""
    name = str(program.path)
    if error.errno == errno.E2BIG:
        detail = "its command line and environment are longer than this system allows"
        hint = "Shorten llama_server_args (a long text can go into a file), or the environment of llamaproxy."
        return replace(failure_of(FailureKind.BAD_ARGUMENT, detail), hint=hint)
    if error.errno == errno.ETXTBSY:
        detail = f"{name} is being written to"
        hint = "An installation is probably under way: it is tried again."
        return replace(failure_of(FailureKind.UNKNOWN, detail), title=CANNOT_RUN, hint=hint)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return _not_found(error, program, cwd)
    if explained := _EXPLAINED.get(error.errno or 0):
        return _cannot_run(f"{name}: {error.strerror}, {explained[0]}", explained[1], name)
    return failure_of(FailureKind.UNKNOWN, f"{error.filename or name}: {error.strerror}")


def _not_found(error: OSError, program: Program, cwd: Path) -> Failure:
    if error.filename is not None and Path(str(error.filename)) == cwd:
        detail = f"the folder {cwd}, in which it is to be started, does not exist"
        return _cannot_run(detail, "Make the folder, or change the configuration that names it.", str(cwd))
    if not program.exists:
        missing = failure_of(FailureKind.BINARY_MISSING, f"{program.path}: {error.strerror}")
        return replace(missing, file=str(program.path))
    if program.interpreter.endswith("\r"):
        detail = f"{program.path} is a script whose lines end as on Windows"
        return _cannot_run(detail, "Save it with the line ends of Unix.", str(program.path))
    if program.interpreter and not program.interpreter_exists:
        detail = f"{program.path} is a script for {program.interpreter}, which does not exist"
        hint = f"Install {program.interpreter}, or change the first line of the script."
        return _cannot_run(detail, hint, program.interpreter)
    detail = f"{program.path} is there, but not the loader that it was built for"
    hint = "Install a llama.cpp for this system: one built for another libc or processor does not run here."
    return _cannot_run(detail, hint, str(program.path))


def _cannot_run(detail: str, hint: str, file: str) -> Failure:
    failure = failure_of(FailureKind.BINARY_MISSING, detail)
    return replace(failure, title=CANNOT_RUN, hint=hint, file=file)
