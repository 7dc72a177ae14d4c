"""The node's random number generator as a device of the device database."""

from diqkd_postproc.records.qrng import QuantisByteSource


class QuantisDevice(QuantisByteSource):
    """A Quantis generator of this PC; `path` is its character device."""

    def __init__(self, dmgr, path: str, timeout_s: float = 10.0) -> None:
        super().__init__(path, timeout_s)
