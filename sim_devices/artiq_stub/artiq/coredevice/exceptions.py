"""Exceptions that the core device raises in kernels."""


class CacheError(Exception):
    """A cache row that is in use would be replaced."""


class RTIOUnderflow(Exception):
    """An output event came too late for its timestamp; the event is discarded."""


class RTIOOverflow(Exception):
    """An input buffer was full and events were lost."""


class RTIODestinationUnreachable(Exception):
    """A DRTIO link is down."""


class DMAError(Exception):
    """An invalid DMA operation."""


class ClockFailure(Exception):
    """The RTIO PLL lost its lock."""


class I2CError(Exception):
    """An I2C transaction failed."""


class SPIError(Exception):
    """An SPI transaction failed."""
