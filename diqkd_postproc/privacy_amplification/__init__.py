"""Quantum-proof randomness extraction: weak designs, one-bit extractors, Trevisan's construction."""

from diqkd_postproc.privacy_amplification.trevisan import (
    TrevisanExtractor,
    TrevisanParameters,
    trevisan_parameters,
)

__all__ = ["TrevisanExtractor", "TrevisanParameters", "trevisan_parameters"]
