"""Common interface of the extractors, so that session and key store need not know which a run uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from diqkd_postproc.privacy_amplification.toeplitz import ToeplitzExtractor
from diqkd_postproc.privacy_amplification.trevisan import TrevisanExtractor
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import ProtocolParameters

Bits = npt.NDArray[np.uint8]


class Extractor(Protocol):
    """A quantum-proof strong extractor of fixed sizes; its seed stays uniform and may be used again."""

    @property
    def seed_bits(self) -> int:
        """Length of the seed, bits.

        The seed is part of K0 and reusable, because both extractors are strong.
        """

    def extract(self, source: Bits, seed: Bits, progress: Callable[[int, int], None] | None = None) -> Bits:
        """(l,) uint8: the key, from (n,) outcomes and (seed_bits,) seed bits, all uint8 of 0 and 1."""


def extractor_for(parameters: ProtocolParameters, key_bits: int | None = None) -> Extractor:
    """The extractor that both parties use under these parameters; ParameterError where there is no key.

    key_bits: of Trevisan's extractor with a variable length, the actual length; None for the longest. Its
    seed is the beginning of the longest one's.
    """
    if parameters.key_bits == 0:
        raise ParameterError("key_bits=0: no key is possible with these parameters, so nothing extracts one")
    if parameters.extractor == "toeplitz":
        return ToeplitzExtractor(parameters.num_rounds, parameters.key_bits)
    extractor_error = parameters.one_bit_error * parameters.key_bits
    length = key_bits or parameters.key_bits
    one_bit_error = parameters.one_bit_error if length == parameters.key_bits else extractor_error / length
    return TrevisanExtractor(parameters.num_rounds, length, one_bit_error)


def seed_bits_for(parameters: ProtocolParameters) -> int:
    """Length of the extractor's seed for a run, bits.

    0 where there is no key. Sizes only are computed: an initial key is made without compiling anything.
    """
    return extractor_for(parameters).seed_bits if parameters.key_bits else 0
