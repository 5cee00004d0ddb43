"""The files that a command line names. Choosing them is pure; `look_at` looks.

llama-server does not always say what it missed: older builds leave out why a file could not be opened, and
with `--log-disable` it says nothing at all.
"""

from __future__ import annotations

import errno
import re
import stat
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor_app.core.command_line.argv import spelled_out
from supervisor_app.core.status import FailureKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from supervisor_app.core.spec import LaunchSpec

GGUF_FLAGS = frozenset(
    {
        *("-mm", "--mmproj", "--lora", "--lora-scaled"),
        *("-md", "--model-draft", "--spec-draft-model", "-mv", "--model-vocoder"),
    }
)
FILE_FLAGS = frozenset(
    {
        *("--chat-template-file", "-jf", "--json-schema-file", "--grammar-file", "--mcp-servers-config"),
        *("--ui-config-file", "--webui-config-file", "--models-preset"),
        *("--api-key-file", "--ssl-key-file", "--ssl-cert-file"),
    }
)
FOLDER_FLAGS = frozenset({"--models-dir", "--path", "--media-path", "--slot-save-path"})
ROUTER_FLAGS = frozenset({"--models-dir", "--models-preset"})
_LISTS = frozenset({"--lora", "--lora-scaled"})
"""Flags that take several files, with commas between them; `--lora-scaled` has a factor after each."""
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_MAGIC = b"GGUF"
MOST_PARTS = 1000
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})
_CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG})


@dataclass(frozen=True, kw_only=True)
class NamedFile:
    flag: str
    path: Path
    """Absolute."""
    gguf: bool = False
    folder: bool = False


@dataclass(frozen=True, kw_only=True)
class BadFile:
    """A file that llama-server cannot use."""

    file: NamedFile
    kind: FailureKind
    detail: str


def is_router(args: Iterable[str]) -> bool:
    """A server of many models, which it finds in a folder or a list."""
    return not ROUTER_FLAGS.isdisjoint(spelled_out(args))


def named_files(spec: LaunchSpec) -> list[NamedFile]:
    """The model with its parts first, then what flags name, in their order."""
    files = []
    if spec.model_file is not None:
        files = [NamedFile(flag="-m", path=part, gguf=True) for part in parts_of(spec.model_file)]
    for flag, value in pairwise(spelled_out(spec.args)):
        if flag in GGUF_FLAGS | FILE_FLAGS | FOLDER_FLAGS:
            files += [
                NamedFile(
                    flag=flag,
                    path=Path(spec.cwd, name),
                    gguf=flag in GGUF_FLAGS,
                    folder=flag in FOLDER_FLAGS,
                )
                for name in _names(flag, value)
            ]
    return files


def _names(flag: str, value: str) -> Iterator[str]:
    for name in value.split(",") if flag in _LISTS else (value,):
        yield name.rpartition(":")[0] or name if flag == "--lora-scaled" else name


def parts_of(path: Path) -> list[Path]:
    """List the parts of a model: of `name-00001-of-00003.gguf` all three, of another file that file alone."""
    split = _PART.fullmatch(path.name)
    count = int(split["count"]) if split else 0
    if split is None or not 0 < count <= MOST_PARTS:
        return [path]
    return [
        path.with_name(f"{split['stem']}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)
    ]


def flag_of(spec: LaunchSpec, path: Path) -> str:
    """The flag that names this file; empty when none does."""
    return next((file.flag for file in named_files(spec) if file.path == path), "")


def bad_files(spec: LaunchSpec) -> list[BadFile]:
    """List the files of a server that cannot be used, as far as we see. May block as long as a disk does."""
    looked = (look_at(file) for file in named_files(spec))
    return [bad for bad in looked if bad is not None]


def look_at(file: NamedFile) -> BadFile | None:
    kind, why = _trouble(file)
    if kind is None:
        return None
    return BadFile(file=file, kind=kind, detail=f"{file.path} {why}")


def _trouble(file: NamedFile) -> tuple[FailureKind | None, str]:
    """Say what is wrong with the file, as the end of a sentence about it."""
    missing = FailureKind.MODEL_MISSING if file.gguf else FailureKind.BAD_ARGUMENT
    unreadable = FailureKind.MODEL_UNREADABLE if file.gguf else FailureKind.BAD_ARGUMENT
    try:
        mode = file.path.stat().st_mode
        if file.folder:
            return (None, "") if stat.S_ISDIR(mode) else (missing, "is not a folder")
        if not stat.S_ISREG(mode):  # to open a pipe would wait for its writer
            return (unreadable, "is a folder") if stat.S_ISDIR(mode) else (None, "")
        with file.path.open("rb") as opened:
            magic = opened.read(len(_MAGIC))
    except OSError as error:
        if error.errno in _ABSENT:
            return missing, "does not exist"
        # Nothing is known of a file at which we cannot look for want of our own resources.
        return (unreadable, f"cannot be read: {error.strerror}") if error.errno in _CLOSED else (None, "")
    if file.gguf and magic != _MAGIC:
        return FailureKind.MODEL_CORRUPT, "is no GGUF file" if magic else "is empty"
    return None, ""
