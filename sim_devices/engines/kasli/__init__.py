"""Compiled engine: runs the RISC-V binary that ARTIQ's compiler makes of a kernel.

Where real ARTIQ and `unicorn` are installed, the class `core.Core` takes the place of ARTIQ's `Core` in a
device database (`database`, `device_db/*_compiled.py`). ARTIQ compiles and links the kernel as for a Kasli.
Here it is loaded (`elf`), linked to functions of an emulated firmware (`support`, `firmware`) and executed
by an emulated CPU (`machine`). ARTIQ's own drivers run unmodified within it; their RTIO events reach
simulated cards (`rtio`, `channels`, `urukul`, put together in `node`) and through them the same apparatus
as the host engine's drivers. Remote calls and exceptions go through ARTIQ's host code (`comm`).

Time is the model of the host engine (`sim_devices.engines.cpu_model`): operations cost CPU time, instructions
between them are free, except that reading the RTIO counter takes `rtio.COUNTER_READ_MU`.
"""

import importlib.util


def missing() -> str | None:
    """What has to be installed for this engine; None if nothing."""
    for module, remedy in (
        ("artiq.compiler", "a real ARTIQ installation"),
        ("unicorn", "the CPU emulator unicorn (pip install unicorn)"),
    ):
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            return f"the compiled engine needs {remedy}"
    return None
