"""Simulated core device with the interface of `artiq.coredevice.core.Core`.

It runs kernels as host Python (see `transform`) on one `Timeline`. Remote procedure calls are ordinary
calls, asynchronous ones too; exceptions of kernels are ordinary exceptions. Between two kernels, the counter
goes on by the kernel start-up time of the CPU model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from math import floor
from typing import Any

from artiq.language import core as language

from sim_devices.engines.cpu_model import CpuModel
from sim_devices.engines.host.shadow import KernelTable, Shadow
from sim_devices.engines.host.timeline import Timeline


class Core:
    """Core device driver on the host engine.

    :param host: accepted for the real driver's sake; nothing is connected to
    :param ref_period: machine unit in seconds
    :param ref_multiplier: machine units in a coarse cycle
    :param cpu_model: fields of `CpuModel` to override
    :param trace: keep every output event in `trace` as (time, key, *values)
    """

    def __init__(
        self,
        dmgr: Any,
        host: str | None = None,
        ref_period: float = 1e-9,
        analyzer_proxy: str | None = None,
        analyze_at_run_end: bool = False,
        ref_multiplier: int = 8,
        target: str = "rv32g",
        satellite_cpu_targets: Mapping[int, str] | None = None,
        report_invariants: bool = False,
        key: str = "core",
        cpu_model: Mapping[str, int] | None = None,
        trace: bool = False,
    ) -> None:
        self.core = self
        self.key = key
        self.ref_period = ref_period
        self.ref_multiplier = ref_multiplier
        self.coarse_ref_period = ref_period * ref_multiplier
        self.timeline = Timeline(CpuModel(**(cpu_model or {})), ref_period, trace)
        self.run_end_hooks: list[Callable[[], None]] = []
        self._table = KernelTable(self.timeline)
        self._shadow: Shadow | None = None
        self.reset = self.timeline.reset
        self.break_realtime = self.timeline.break_realtime
        self.wait_until_mu = self.timeline.wait_until

    @property
    def trace(self) -> list[tuple[Any, ...]] | None:
        """Output events since the start, or None if the core was made without `trace`."""
        return self.timeline.trace

    def run(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a kernel; called by the @kernel decorator."""
        kernel = self._table.function(function)
        if self._shadow is not None:
            if args:
                self._shadow.adopt(args[0])
            return kernel(*args, **kwargs)
        previous_manager = language._time_manager
        self._shadow = Shadow(self, self._table)
        self.timeline.cpu += self.timeline.model.kernel_start_mu
        try:
            language.set_time_manager(self.timeline)
            for argument in args:
                self._shadow.adopt(argument)
            return kernel(*args, **kwargs)
        finally:
            shadow, self._shadow = self._shadow, None
            shadow.remove()
            language.set_time_manager(previous_manager)
            for hook in self.run_end_hooks:
                hook()

    def precompile(self, function: Any, *args: Any, **kwargs: Any) -> Callable[[], Any]:
        """A callable without arguments that runs the kernel `function(*args, **kwargs)`."""
        if not hasattr(function, "artiq_embedded"):
            raise ValueError("Argument is not a kernel")

        @wraps(function)
        def run_precompiled() -> Any:
            return function(*args, **kwargs)

        return run_precompiled

    def seconds_to_mu(self, seconds: float) -> int:
        """Machine units in `seconds`, rounded down.

        As with the real driver, the same call may differ by one unit between host and kernel: Python rounds
        the exact quotient down, compiled code the quotient after it was rounded to a float.
        """
        if self._shadow is None:
            return int(seconds // self.ref_period)
        return floor(seconds / self.ref_period)

    def mu_to_seconds(self, mu: int) -> float:
        return mu * self.ref_period

    def get_rtio_counter_mu(self) -> int:
        """The counter; the simulated CPU has just reached it."""
        return self.timeline.cpu

    def get_rtio_destination_status(self, destination: int) -> bool:
        """True for the only destination that a single Kasli has."""
        return destination == 0

    def trigger_analyzer_proxy(self) -> None:
        raise OSError("No analyzer proxy configured")

    def close(self) -> None:
        """Nothing is held open."""
