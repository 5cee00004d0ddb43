from __future__ import annotations

from django.urls import path

from supervisor_app.pages.consumers import StatusConsumer

urlpatterns = [path("llamaproxws", StatusConsumer.as_asgi(), name="socket")]
