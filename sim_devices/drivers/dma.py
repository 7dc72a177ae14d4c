"""Core DMA (`artiq.coredevice.dma`): recorded driver calls, played back at another time."""

from __future__ import annotations

from typing import Any

from artiq.coredevice.exceptions import DMAError

from sim_devices.engines.host.timeline import Timeline

DRIVER_MARGIN_MU = 1_000_000


class _Recorder:
    """Context manager in which outputs go into a trace, with the cursor starting at 0."""

    def __init__(self, dma: CoreDMA, name: str) -> None:
        self._dma = dma
        self._name = name

    def __enter__(self) -> None:
        self._dma.timeline.start_recording()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        trace = self._dma.timeline.stop_recording()
        if kind is None:
            self._dma.traces[self._name] = trace


class CoreDMA:
    """Traces by name; a handle is valid until the next `record` or `erase`."""

    def __init__(self, dmgr: Any, core_device: str = "core", *, key: str = "core_dma") -> None:
        self.core = dmgr.get(core_device)
        self.key = key
        self.timeline: Timeline = self.core.timeline
        self.traces: dict[str, tuple[int, list[Any]]] = {}
        self.epoch = 0

    def record(self, name: str, enable_ddma: bool = False) -> _Recorder:
        """Context manager that records a trace under `name`, replacing an older one."""
        self.epoch += 1
        return _Recorder(self, name)

    def erase(self, name: str) -> None:
        self.epoch += 1
        self._trace(name)
        del self.traces[name]

    def _trace(self, name: str) -> tuple[int, list[Any]]:
        if name not in self.traces:
            raise DMAError(f"DMA trace {name!r} not found; recorded are {sorted(self.traces)}")
        return self.traces[name]

    def get_handle(self, name: str) -> tuple[int, int, Any, bool]:
        """Handle for `playback_handle`."""
        duration, events = self._trace(name)
        return self.epoch, duration, events, False

    def playback(self, name: str) -> None:
        """Play a trace at the cursor; advances the cursor by its duration."""
        self.playback_handle(self.get_handle(name))

    def playback_handle(self, handle: tuple[int, int, Any, bool]) -> None:
        """Play a trace by handle: less CPU time than by name."""
        epoch, duration, events, _ = handle
        if epoch != self.epoch:
            raise DMAError("Invalid handle")
        timeline = self.timeline
        start = timeline.now
        model = timeline.model
        counter = timeline.cpu + model.dma_start_mu
        for position, (offset, function, args) in enumerate(events):
            timeline.now = start + offset
            timeline.cpu = counter + position * model.dma_event_mu
            if timeline.now < timeline.cpu:
                timeline.late(self.key, 0, function, *args)
            # the check was made here: the driver must not charge the event to the CPU again
            timeline.cpu = timeline.now - DRIVER_MARGIN_MU
            function(*args)
        timeline.cpu = counter + len(events) * model.dma_event_mu
        timeline.now = start + duration
