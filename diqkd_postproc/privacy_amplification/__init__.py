"""Quantum-proof randomness extraction: Trevisan's construction and Toeplitz hashing.

>>> import numpy as np
>>> random = np.random.default_rng(1)
>>> extractor = ToeplitzExtractor(num_input_bits=10_000, num_output_bits=500)
>>> source = random.integers(0, 2, 10_000, dtype=np.uint8)
>>> seed = random.integers(0, 2, extractor.seed_bits, dtype=np.uint8)
>>> extractor.extract(source, seed).shape
(500,)
"""

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
