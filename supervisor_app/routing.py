from __future__ import annotations

from django.urls import path

from supervisor_app.pages.consumers import StatusConsumer
from supervisor_app.pages.log_socket import LogConsumer

urlpatterns = [
    path("llamaproxws", StatusConsumer.as_asgi(), name="socket"),
    path("llamaproxws/log", LogConsumer.as_asgi(), name="log-socket"),
]
