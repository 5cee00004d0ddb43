"""The hub itself: `huggingface_hub` says what there is and where it lies. For a process of its own.

Its downloader resumes, but can neither be paused nor slowed down, and with Xet it writes by itself in native
threads; so files are read here by plain ranged requests, which every mirror behind `HF_ENDPOINT` answers.
Tokens come from its environment or file alone (`HF_TOKEN`, `hf auth login`).
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import requests
from huggingface_hub import HfApi, constants, get_token, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from supervisor_app.library.hub.errors import BrokenError, HubError, gated, missing
from supervisor_app.library.hub.repository import Listing, Remote, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

LIST_SECONDS = 15.0
CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0
CHUNK = 256 * 1024
AGENT = "llamaproxy"
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


def read_listing(repository: str, revision: str) -> Listing:
    """Ask the hub for the files of a revision. Raises HubError, BrokenError."""
    endpoint, has_token = constants.ENDPOINT, bool(get_token())
    try:
        info = HfApi(library_name=AGENT).model_info(
            repository, revision=revision, files_metadata=True, timeout=LIST_SECONDS
        )
    except GatedRepoError as error:
        raise gated(repository, endpoint, has_token=has_token) from error
    except RepositoryNotFoundError as error:
        raise missing(repository, endpoint) from error
    except RevisionNotFoundError as error:
        raise HubError(f"{repository} has no revision {revision}.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise _refused(repository, status, endpoint, has_token=has_token) from error
    except Exception as error:  # of whichever HTTP client that version has
        raise BrokenError(f"the hub at {endpoint} cannot be reached ({type(error).__name__})") from error
    files = (
        Remote(path=file.rfilename, size=file.size or 0, sha256=file.lfs.sha256 if file.lfs else "")
        for file in info.siblings or ()
    )
    return listed(repository, info.sha or revision, files)


@contextmanager
def opened(repository: str, commit: str, file: Remote, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Open a file from a byte on: where it really begins, and its bytes. Raises HubError, BrokenError.

    A hub that knows no ranges sends the whole: that begins at 0.
    """
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if token := get_token():  # requests leaves it out where the hub leads to another host
        headers["Authorization"] = f"Bearer {token}"
    if start:
        headers["Range"] = f"bytes={start}-"
    url, timeout = hf_hub_url(repository, file.path, revision=commit), (CONNECT_SECONDS, READ_SECONDS)
    try:
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as answer:
            yield _beginning(answer, repository, file), answer.iter_content(CHUNK)
    except requests.RequestException as error:
        raise BrokenError(f"the connection broke ({type(error).__name__})") from error


def _beginning(answer: requests.Response, repository: str, file: Remote) -> int:
    if answer.status_code == 200:
        return 0
    if answer.status_code == 206:
        said = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if said is None or said[2] not in ("*", str(file.size)):
            raise HubError(f"The hub now has another {file.path} than was listed. Cancel, and begin anew.")
        return int(said[1])
    if answer.status_code == 404:
        raise HubError(f"{repository} has no {file.path} any more.")
    wait = answer.headers.get("Retry-After", "")
    if answer.status_code == 429 or answer.status_code >= 500:
        seconds = float(wait) if wait.isascii() and wait.isdigit() else 0.0
        raise BrokenError(f"the hub answered {answer.status_code}", min(seconds, 300.0))
    raise _refused(repository, answer.status_code, constants.ENDPOINT, has_token=bool(get_token()))


def _refused(repository: str, status: int, endpoint: str, *, has_token: bool) -> HubError | BrokenError:
    if status in (401, 403):
        return gated(repository, endpoint, has_token=has_token)
    if status == 404:
        return missing(repository, endpoint)
    if status == 429 or status >= 500:
        return BrokenError(f"the hub answered {status}")
    return HubError(f"The hub answered {status} about {repository}, which nobody expected.")
