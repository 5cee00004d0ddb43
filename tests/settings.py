"""The product's settings on a throw-away data directory, made before anything reads them."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

if "LLAMAPROXY_DATA_DIR" not in os.environ or (
    # Of the process that started this worker of a parallel run, which has a database of its own.
    os.environ.get("LLAMAPROXY_TESTS_WORKER", "") != os.environ.get("PYTEST_XDIST_WORKER", "")
):
    os.environ["LLAMAPROXY_TESTS_WORKER"] = os.environ.get("PYTEST_XDIST_WORKER", "")
    os.environ["LLAMAPROXY_DATA_DIR"] = tempfile.mkdtemp(prefix="llamaproxy-tests-")
    atexit.register(shutil.rmtree, os.environ["LLAMAPROXY_DATA_DIR"], ignore_errors=True)
os.environ.pop("REDIS_URL", None)

from llamaproxy.settings import *  # noqa: F403
from llamaproxy.settings import DATA_DIR, DATABASES

# A file, because the supervisor writes from other threads than the test reads in.
DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Each client of a test has a middleware of its own, which otherwise looks at every static file first.
WHITENOISE_AUTOREFRESH = True
