#!/usr/bin/env python3
from __future__ import annotations

import os
import sys

SET_UP = "python3 -m venv .venv && .venv/bin/pip install -e '.[engine]' && .venv/bin/python manage.py …"


def main() -> None:
    if sys.platform == "win32":
        sys.exit("llamaproxy does not run on Windows. Run it in WSL 2.")
    if sys.version_info < (3, 11):  # noqa: UP036  (who runs it may have an older one)
        sys.exit(f"llamaproxy needs Python 3.11 or newer, this is {sys.version.split()[0]}.")
    from llamaproxy.surroundings import hold_collector, open_standard_files, share_heaps, speak_utf8

    speak_utf8()
    open_standard_files()
    share_heaps()
    hold_collector()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llamaproxy.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line

        from llamaproxy.data_dir import UMASK
    except ModuleNotFoundError:
        sys.exit(f"{sys.executable} has no Django. Set up once: {SET_UP}")
    os.umask(UMASK)
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:  # an environment variable that settings.py cannot understand
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
