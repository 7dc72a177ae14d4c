"""Stand-in for the `artiq` package: see `sim_devices.artiq_stub`."""

__version__ = "9.0+stub"
__stub__ = True
