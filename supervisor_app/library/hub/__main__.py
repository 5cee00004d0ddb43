"""The process of one download, or of one look at a repository: a job on its input, news as JSON lines.

A process, because a library that hangs or crashes then takes nobody with it. It ends as soon as its input
does, so it never outlives the supervisor, however that ends; what was written stays, and the next goes on.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

import psutil

from supervisor_app.library.hub.client import opened, read_listing
from supervisor_app.library.hub.errors import BrokenError, HubError, no_choice, no_models
from supervisor_app.library.hub.fetch import Fetch, Job
from supervisor_app.library.hub.pace import Bound

if TYPE_CHECKING:
    from collections.abc import Mapping

NICE = 15


def main() -> None:
    """Do one job."""
    _step_back()
    job = json.loads(sys.stdin.readline())
    bound = Bound(float(job.get("rate", 0)), time.monotonic())
    Thread(target=_obey, args=[bound], name="orders", daemon=True).start()
    try:
        if job["do"] == "list":
            _say(listing=_listing(job))
        else:
            _fetch(job, bound)
    except (HubError, BrokenError) as error:
        _say(failed=_sentence(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say(failed=f"{where}{error.strerror or type(error).__name__}.")


def _fetch(job: Mapping[str, Any], bound: Bound) -> None:
    if not job["files"]:
        job = {**job, **_plan(job)}
    fetch = Fetch(
        Job.from_json(job),
        open_file=opened,
        report=lambda **news: _say(**news),
        bound=bound,
        sleep=time.sleep,
        clock=time.monotonic,
    )
    fetch.run()
    _say(finished=True)


def _plan(job: Mapping[str, Any]) -> dict[str, Any]:
    """Choose the files, and tell them: a later try goes on with these, whatever the repository has then."""
    found = read_listing(job["repository"], job["revision"])
    choice = found.choice(job["label"])
    if choice is None:
        raise no_choice(found.repository, job["label"], [each.label for each in found.choices])
    files = [*choice.files, *(found.projectors[:1] if job["projector"] else ())]
    plan = {"commit": found.commit, "files": [file.as_json() for file in files]}
    _say(plan={**plan, "label": choice.label})
    return plan


def _listing(job: Mapping[str, Any]) -> dict[str, Any]:
    found = read_listing(job["repository"], job["revision"])
    if not found.choices:
        raise no_models(found.repository)
    return found.as_json()


def _sentence(error: Exception) -> str:
    text = str(error)
    return text if text.endswith(".") else f"{text[:1].upper()}{text[1:]}. Try again in a moment."


def _step_back() -> None:
    """Take the processor and the disk only while nobody else wants them."""
    with suppress(OSError, psutil.Error, AttributeError):
        os.nice(NICE)
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


def _obey(bound: Bound) -> None:
    """Take orders until the input ends, then end at once."""
    with suppress(ValueError, OSError):
        for line in sys.stdin:
            bound.change(float(json.loads(line)["rate"]))
    os._exit(0)


def _say(**news: Any) -> None:
    try:
        sys.stdout.write(json.dumps(news) + "\n")
        sys.stdout.flush()
    except OSError:  # nobody listens any more
        os._exit(0)


if __name__ == "__main__":
    main()
