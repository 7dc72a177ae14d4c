"""ARTIQ's own `Core` on the emulated core device: compiles as for a Kasli, and runs the RISC-V binary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sim_devices.engines.kasli import missing

if (_MISSING := missing()) is not None:
    raise ImportError(_MISSING)

from artiq import __version__ as artiq_version
from artiq.coredevice.comm_kernel import Reply, Request
from artiq.coredevice.core import Core as HardwareCore

from sim_devices.engines.cpu_model import CpuModel
from sim_devices.engines.kasli.comm import EmulatedComm
from sim_devices.engines.kasli.firmware import Firmware
from sim_devices.engines.kasli.node import channels


def exception_id(name: str) -> int:
    """Number of one of the exceptions that the core device raises; the host's table comes with ARTIQ."""
    # not at the top: ARTIQ's compiler can be imported only through artiq.compiler.module
    from artiq.compiler.embedding import EmbeddingMap

    return int(EmbeddingMap().store_str(f"0:artiq.coredevice.exceptions.{name}"))


def power_up(entries: dict[str, Any], apparatus: Any, model: CpuModel, coarse_mu: int) -> Firmware:
    """A core device with the hardware of a device database in front of an apparatus."""
    return Firmware(
        lambda rtio: channels(entries, apparatus, model, coarse_mu, rtio.report, lambda: rtio.counter),
        model,
        exception_id,
        Request,
        Reply,
        strings_in_registers=int(artiq_version.partition(".")[0]) >= 9,
    )


class Core(HardwareCore):  # type: ignore[misc]
    """Core device driver; the arguments are those of the real one.

    The hardware is that of the device database's other entries, in front of its device "apparatus".

    :param host: accepted for the real driver's sake; nothing is connected to
    :param cpu_model: fields of `CpuModel` to override
    """

    def __init__(
        self,
        dmgr: Any,
        host: str | None,
        ref_period: float,
        *args: Any,
        cpu_model: Mapping[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(dmgr, None, ref_period, *args, **kwargs)
        self._cpu_model = CpuModel(**(cpu_model or {}))
        self.comm = EmulatedComm(self._start_firmware)
        self.comm.core = self

    @property
    def firmware(self) -> Firmware:
        """The emulated core device itself, for a look at its counter or channels."""
        return self.comm.firmware

    def _start_firmware(self) -> Firmware:
        return power_up(
            self.dmgr.get_device_db(), self.dmgr.get("apparatus"), self._cpu_model, self.ref_multiplier
        )
