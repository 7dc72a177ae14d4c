"""Time model of the core device's CPU, which decides on RTIOUnderflow.

Only the operations below take CPU time; Python statements between them are free. The numbers are typical of
a Kasli, rounded up to be on the safe side: a kernel that keeps its slack here keeps it on hardware, within
the factor of two by which loops and arithmetic differ. Unit: machine units (1 ns).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CpuModel:
    """CPU time of each operation in machine units; override them in the `core` entry of a device_db."""

    output_mu: int = 500
    """Submitting one output event (an AD9910 update is sixteen of them)."""
    input_mu: int = 1_000
    """From an input event to the statement after the read that waited for it."""
    read_mu: int = 500
    """Reading an input event that had come before, or that none had come."""
    rpc_mu: int = 1_000_000
    """A remote procedure call that is waited for."""
    async_rpc_mu: int = 100_000
    """Handing over an asynchronous remote procedure call."""
    kernel_start_mu: int = 10_000_000
    """Loading a kernel and entering it."""
    dma_start_mu: int = 5_000
    """Starting a DMA playback."""
    dma_event_mu: int = 40
    """One event of a DMA playback."""
    cache_mu: int = 2_000
    """One access to the core cache."""
