"""Constants and exceptions of the core device; the drivers are in `sim_devices.drivers`."""

from artiq.coredevice.exceptions import RTIOOverflow, RTIOUnderflow

__all__ = ["RTIOOverflow", "RTIOUnderflow"]
