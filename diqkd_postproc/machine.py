"""Description of the machine that a measurement was made on, without which no timing can be compared."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any


@cache
def processor_name() -> str:
    """Name of the processor, as the operating system has it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _num_processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_machine() -> dict[str, Any]:
    """Processor, its number, instruction sets of the carry-less kernels, system and versions."""
    # Imported on first use: numba is slow to import.
    from diqkd_postproc.fields.carryless import instruction_sets

    return {
        "processor": processor_name(),
        "processors": _num_processors(),
        "instruction_sets": list(instruction_sets()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        "numba": metadata.version("numba"),
        "llvmlite": metadata.version("llvmlite"),
    }


def peak_memory_mib() -> float | None:
    """Peak resident memory of this process in MiB; None where the platform does not report it."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
