"""Carry out wishes to delete a model: nothing but the files of its row, where they lay when people saw them.

No path comes from a form. The directory is entered step by step without following a link, and each file is
compared with the one that was listed, so neither a link nor a file that took its place is deleted.
"""

from __future__ import annotations

import logging
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.utils import timezone

from supervisor_app.common.redact import harmless
from supervisor_app.fleet.audit import note
from supervisor_app.library.shelf import is_projector, mark_of
from supervisor_app.modelfiles.models import ModelFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django.contrib.auth.models import User
    from django.db.models import QuerySet

    from supervisor_app.modelfiles.places import Places

log = logging.getLogger(__name__)


class KeptError(Exception):
    """A model that is not deleted; the text is a sentence that says why."""


def wish_to_delete(row: ModelFile, user: User) -> None:
    """Ask the node of a model to delete it. Raises KeptError for what is seen to be refused already."""
    if why := why_kept(row):
        raise KeptError(why)
    with transaction.atomic():
        ModelFile.objects.filter(pk=row.pk).update(
            delete_wished_at=timezone.now(), delete_wished_by=user.get_username(), refusal=""
        )
        note("delete", f"model {row.name}", {"node": row.node, "path": row.path, "size": row.size})
        LogEntry.objects.create(
            user_id=user.pk,
            content_type=ContentType.objects.get_for_model(ModelFile),
            object_id=str(row.pk),
            object_repr=str(row)[:200],
            action_flag=DELETION,
            change_message="Asked its node to delete the files.",
        )


def why_kept(row: ModelFile) -> str:
    """Return why a model cannot be deleted; empty: it can."""
    if row.used_by:
        return _used(row.used_by)
    return row.kept


def wished_of(node: str) -> QuerySet[ModelFile]:
    """Return the models of a node that people wish to be deleted."""
    return ModelFile.objects.filter(node=node, delete_wished_at__isnull=False)


def carry_out(wished: Iterable[ModelFile], places: Places) -> None:
    """Delete models of this node, or say why not. Raises what the database raises."""
    for row in wished:
        try:
            _delete(row, places)
        except KeptError as error:
            log.warning("⚠️ [MODELS] %s is not deleted: %s", harmless(row.path), error)
            ModelFile.objects.filter(pk=row.pk).update(delete_wished_at=None, refusal=str(error))
        else:
            who = harmless(row.delete_wished_by)
            log.info("🗑️ [MODELS] Deleted %s, as %s asked", harmless(row.path), who)
            row.delete()


def _delete(row: ModelFile, places: Places) -> None:
    """Raises KeptError."""
    files = {Path(path): mark for path, mark in row.files}
    parts = [path for path in files if not is_projector(path.name)] or list(files)
    if users := places.users(parts):
        raise KeptError(_used(users))
    folder = Path(row.path).parent
    if any(path.parent != folder for path in files) or places.own not in folder.joinpath("x").parents:
        raise KeptError("It is outside of this node's directory of models.")
    try:
        with _opened(places.own, folder) as descriptor:
            for path in parts:
                _check(descriptor, path.name, files[path])
            for path in parts:
                os.unlink(path.name, dir_fd=descriptor)
            _tidy(descriptor, places, [path for path in files if path not in parts])
    except OSError as error:
        raise KeptError(f"It cannot be deleted: {error.strerror}.") from error
    _remove_empty(places.own, folder)


def _tidy(descriptor: int, places: Places, projectors: list[Path]) -> None:
    """Delete projectors for which no model is left, and which no server names."""
    left = [name for name in os.listdir(descriptor) if name.endswith((".gguf", ".part"))]
    names = {path.name for path in projectors}
    if set(left) <= names and not places.users(projectors):
        for name in left:
            os.unlink(name, dir_fd=descriptor)


@contextmanager
def _opened(root: Path, folder: Path) -> Iterator[int]:
    """Open a directory below the root, one step after the other: no link leads out. Raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    descriptor = os.open(root, flags)
    try:
        for name in folder.relative_to(root).parts:
            inner = os.open(name, flags | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _check(descriptor: int, name: str, mark: str) -> None:
    found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode):
        raise KeptError(f"{name} is a link: delete it on the host itself.")
    if mark_of(found) != mark:
        raise KeptError(f"{name} is another file than the one that was listed. Look again.")


def _remove_empty(root: Path, folder: Path) -> None:
    """Remove directories in which nothing is left."""
    with suppress(OSError):
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def _used(users: list[str]) -> str:
    return f"It is used by {', '.join(users)}: let the server have another model first."
