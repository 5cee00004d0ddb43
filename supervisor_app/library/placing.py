"""The device of each part of a model: `load_tensors` of `src/llama-model.cpp` in llama.cpp. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor_app.library.flags import Load

Place = int | None
"""The number of a GPU; None: the memory of the host."""
_LAYER = re.compile(r"blk\.(\d{1,6})\.")


@dataclass(frozen=True)
class Placing:
    """Layers 0 to `layers` - 1 and, as number `layers`, what makes the output of the last one."""

    load: Load
    layers: int
    gpus: int
    gpu_layers: int
    shares: tuple[float, ...] = ()
    """Share of the layers that each GPU takes; by default the same."""

    def of_layer(self, index: int) -> Place:
        """The last layers go to GPUs, the output before all others."""
        on_gpus = min(self.gpu_layers, self.layers + 1) if self.gpus else 0
        start = self.layers + 1 - on_gpus
        if index < start:
            return None
        if self.load.one_device:
            return min(self.load.main_device, self.gpus - 1)
        shares = (self.load.shares or self.shares or (1.0,) * self.gpus)[: self.gpus]
        ends = list(accumulate(shares))
        part = (index - start) / on_gpus * ends[-1] if ends[-1] > 0 else 0.0
        return min(bisect_right(ends, part), self.gpus - 1)

    @property
    def of_output(self) -> Place:
        return self.of_layer(self.layers)

    def of_tensor(self, name: str) -> Place:
        """Embeddings of tokens stay on the host: looking them up is no work."""
        if any(re.search(pattern, name) for pattern in self.load.on_host):
            return None
        if (found := _LAYER.match(name)) is not None:
            index = int(found[1])
            if "_exps" in name and index < self.load.experts_on_host:
                return None
            return self.of_layer(index)
        return None if name.startswith("token_embd") else self.of_output

    @property
    def used(self) -> tuple[Place, ...]:
        """Return every place that computes a layer."""
        return tuple(dict.fromkeys(self.of_layer(index) for index in range(self.layers + 1)))
