"""Quantum-proof randomness extraction: Trevisan's construction and Toeplitz hashing."""

from diqkd_postproc.privacy_amplification.extractor import Extractor, extractor_for, seed_bits_for
from diqkd_postproc.privacy_amplification.toeplitz import ToeplitzExtractor
from diqkd_postproc.privacy_amplification.trevisan import (
    TrevisanExtractor,
    TrevisanParameters,
    trevisan_parameters,
)

__all__ = [
    "Extractor",
    "ToeplitzExtractor",
    "TrevisanExtractor",
    "TrevisanParameters",
    "extractor_for",
    "seed_bits_for",
    "trevisan_parameters",
]
