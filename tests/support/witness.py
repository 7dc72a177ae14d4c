"""A node's apparatus that writes down, when it is closed, what its outputs were left at."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sim_devices.apparatus.node_apparatus import NodeApparatus

# Put next to the shipped database, which it takes over but for the apparatus.
DEVICE_DB = """
import runpy
device_db = runpy.run_path({shipped!r})["device_db"]
apparatus = device_db["apparatus"]
apparatus |= {{"module": "tests.support.witness", "class": "WitnessApparatus"}}
apparatus["arguments"]["testimony"] = {testimony!r}
"""


class WitnessApparatus(NodeApparatus):
    """`testimony`: the file to write; a JSON object of outputs and their last values."""

    def __init__(self, device_mgr: Any, testimony: str, **arguments: Any) -> None:
        super().__init__(device_mgr, **arguments)
        self._testimony = Path(testimony)
        self._last: dict[str, float] = {}

    def level_sink(self, key: str) -> Callable[[int, int], None]:
        sink, last = super().level_sink(key), self._last

        def watched(time_mu: int, value: int) -> None:
            last[key] = value
            sink(time_mu, value)

        return watched

    def dac_sink(self, key: str) -> Callable[[int, int, float], None]:
        sink, last = super().dac_sink(key), self._last

        def watched(time_mu: int, channel: int, volts: float) -> None:
            last[f"{key} {channel}"] = volts
            sink(time_mu, channel, volts)

        return watched

    def close(self) -> None:
        self._testimony.write_text(json.dumps(self._last))
        super().close()
