"""The channel layer, for all who send and receive."""

from __future__ import annotations

import sys
from typing import Any

from channels.layers import get_channel_layer


def channel_layer() -> Any:
    """Get Channels' own; that of Redis has connections which notice that nobody answers."""
    layer = get_channel_layer()
    if "channels_redis.pubsub" in sys.modules:  # imported by now, and only where there is a Redis
        from supervisor_app.fleet.redis_layer import install

        install()
    return layer
