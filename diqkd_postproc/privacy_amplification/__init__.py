"""Quantum-proof randomness extraction: weak designs, one-bit extractors, Trevisan's construction."""
