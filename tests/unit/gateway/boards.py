"""Several boards over one file, in the place of the workers that have them."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from supervisor_app.gateway.workers.board import Board

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BEGIN = 1000.0
"""When all of them began: that of `timers.Timers`, too."""


@contextmanager
def boards(directory: Path, number: int = 2) -> Iterator[list[Board]]:
    with ExitStack() as stack:
        yield [stack.enter_context(closing(board)) for board in make_boards(directory, number, BEGIN)]


def make_boards(directory: Path, number: int, now: float) -> list[Board]:
    """Whose users close them."""
    path = directory / Board.NAME
    Board.create(path, number)
    return [Board(path, column, now) for column in range(number)]
