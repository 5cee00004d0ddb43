"""HTTP to Django, WebSockets to the consumers, behind the Origin and Host check."""

from __future__ import annotations

import os
import sys

from django.apps import apps
from django.core.asgi import get_asgi_application

from llamaproxy.data_dir import UMASK
from llamaproxy.surroundings import hold_collector, open_standard_files, share_heaps

os.umask(UMASK)
open_standard_files()
share_heaps()
if not apps.ready:  # else nothing would let go of it again: manage.py imports this once its apps are ready
    hold_collector()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llamaproxy.settings")
django_application = get_asgi_application()

# After get_asgi_application, which loads the apps that these import.
from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from llamaproxy.origin import browser_origin_validator  # noqa: E402
from supervisor_app import routing  # noqa: E402
from supervisor_app.common.sub_path import below_sub_path  # noqa: E402
from supervisor_app.core.machine.file_limit import raise_file_limit  # noqa: E402
from supervisor_app.web.turnstile import Turnstile  # noqa: E402

raise_file_limit()
application = below_sub_path(
    ProtocolTypeRouter(
        {
            "http": Turnstile(django_application),
            "websocket": browser_origin_validator(AuthMiddlewareStack(URLRouter(routing.urlpatterns))),
        }
    )
)

if "daphne.server" in sys.modules:  # its command imports this before it listens
    from supervisor_app.web.guarded import install

    install()
