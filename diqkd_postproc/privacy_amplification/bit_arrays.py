"""Checks of arrays that hold one bit an element."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from diqkd_postproc.protocol.errors import ParameterError


def check_bits(name: str, bits: npt.NDArray[np.uint8], length: int) -> None:
    """Reject anything but a uint8 array of `length` bits; the message shows no content."""
    if not isinstance(bits, np.ndarray) or bits.dtype != np.uint8:
        raise ParameterError(f"{name} must be a numpy array of dtype uint8, one bit an element")
    if bits.shape != (length,):
        raise ParameterError(f"{name} has shape {bits.shape}; this extractor needs ({length},)")
    if length and int(bits.max()) > 1:
        raise ParameterError(f"{name} holds values other than 0 and 1; unpack it with numpy.unpackbits")
