"""Failures of a download in words: what is wrong, and what to do. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.common.words import size

if TYPE_CHECKING:
    from collections.abc import Sequence


class HubError(Exception):
    """A failure that trying again does not mend; the text is a sentence or two."""


class BrokenError(Exception):
    """A failure that may be over in a moment; the text is a part of a sentence."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        """`wait`: seconds for which the hub asks."""
        super().__init__(why)
        self.wait = wait


def gated(repository: str, endpoint: str, *, has_token: bool) -> HubError:
    """A repository whose licence must be accepted first."""
    page = f"{endpoint}/{repository}"
    if has_token:
        return HubError(
            f"{repository} is gated, and the token of this node may not read it. Accept its licence at "
            f"{page} with the account of that token."
        )
    return HubError(
        f"{repository} is gated. Accept its licence at {page}, and give the supervisor a token of that "
        "account: HF_TOKEN in its environment, or the file that `hf auth login` writes."
    )


def missing(repository: str, endpoint: str) -> HubError:
    """A repository that is not there, which private ones look like, too."""
    return HubError(
        f"There is no {repository} at {endpoint}, or it is private and wants a token (HF_TOKEN). Compare the "
        "name with its page."
    )


def no_room(directory: str, lacking: int) -> HubError:
    """A disk that is full, or will be."""
    return HubError(
        f"The disk of {directory} has no room: {size(max(1, lacking))} more are needed. What is here is "
        "kept: make room, then retry, and the download goes on."
    )


def wrong_checksum(path: str) -> HubError:
    """A file that came whole and is not the one that the hub has."""
    return HubError(
        f"{path} arrived with another checksum than the hub's, so it was thrown away. Retry; if that "
        "happens again, something between this node and the hub changes what it sends."
    )


def no_models(repository: str) -> HubError:
    """A repository for other programs."""
    return HubError(
        f"{repository} has no GGUF file, which llama-server needs. Look for one with GGUF in its name."
    )


def no_choice(repository: str, label: str, known: Sequence[str]) -> HubError:
    """A quantization that a repository lacks."""
    if not known:
        return no_models(repository)
    return HubError(f"{repository} has no {label}. It has {', '.join(known)}.")
