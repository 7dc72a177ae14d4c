"""Model of the entangler core's gateware, exact to the coarse cycle: one core, or two that are linked.

Both engines play their attempts through this model, so that a kernel sees the end, the reason and the
registers that the gateware of OxfordIonTrapGroup/entangler-core gives (`entangler/core.py`,
`entangler/phy.py`). The state machine is stepped coarse cycle by coarse cycle where something changes, and
skipped where nothing does: waits, the inside of an attempt, and whole attempts without a herald. A run
costs as much as it has attempts with clicks.

Times are coarse cycles (`COARSE_MU` machine units of 1 ns) of one clock for both cores, unless a name ends in
`_ns`. An event at cycle t reaches the core's registers `strobe_delay` cycles later. An attempt (a cycle in
the words of the gateware) starts where the state machine's counter is 0. With N in the register its period
is N + 4:

    master, standalone   -3 idle   -2, -1 trigger   0 ... N counter
    slave                -1 idle                    0 ... N counter   N + 1, N + 2 wait for success

Edges are given attempt by attempt, in ns from its start as they reach the core, anywhere in the period
above. The decision at the end takes in the clicks before cycle N; later ones still change the reason.

    >>> core = EntanglerCore()
    >>> core.write(CONFIG, 0b101, event=0)  # enabled, standalone
    >>> core.write(CYCLE_LENGTH, 121, event=1)
    >>> core.write(HERALDS, heralds_word([0b0011, 0b1100]), event=2)
    >>> for gate in range(TIMING + 4, TIMING + 8):
    ...     core.write(gate, timing_word(gate, 24, 60), event=gate)
    >>> clicks = AttemptEdges(attempt=40, clicks=[(630, 0), (641, 1)])
    >>> outcome = core.run(event=1000, duration=62_500, edges=InputEdges(reference_ns=600, attempts=[clicks]))
    >>> outcome.end - outcome.start, outcome.reason, core.read(NUM_CYCLES, event=outcome.end + 10)
    (5127, 1, 41)
"""

from sim_devices.engines.entangler_core.core import EntanglerCore, LinkedCores, Run
from sim_devices.engines.entangler_core.detection import DARK, AttemptEdges, InputEdges
from sim_devices.engines.entangler_core.node_core import (
    PUMPING_OUTPUT,
    REPUMPING_OUTPUT,
    Clicks,
    ClickSource,
    NodeCore,
    Window,
)
from sim_devices.engines.entangler_core.outcome import Attempts, Outcome
from sim_devices.engines.entangler_core.registers import (
    COARSE_MU,
    CONFIG,
    COUNTER_PATTERNS,
    COUNTS,
    CYCLE_LENGTH,
    HERALDS,
    NUM_CYCLES,
    NUM_TRIGGERS,
    READY,
    RTIO_STROBE_DELAY,
    RUN,
    STATUS,
    STROBE_DELAY,
    SUCCESS,
    TIME_REMAINING,
    TIMED_OUT,
    TIMEOUT_REASON,
    TIMESTAMPS,
    TIMING,
    counter_patterns_word,
    heralds_word,
    timing_word,
)

__all__ = [
    "COARSE_MU",
    "CONFIG",
    "COUNTER_PATTERNS",
    "COUNTS",
    "CYCLE_LENGTH",
    "DARK",
    "HERALDS",
    "NUM_CYCLES",
    "NUM_TRIGGERS",
    "PUMPING_OUTPUT",
    "READY",
    "REPUMPING_OUTPUT",
    "RTIO_STROBE_DELAY",
    "RUN",
    "STATUS",
    "STROBE_DELAY",
    "SUCCESS",
    "TIMED_OUT",
    "TIMEOUT_REASON",
    "TIMESTAMPS",
    "TIME_REMAINING",
    "TIMING",
    "AttemptEdges",
    "Attempts",
    "ClickSource",
    "Clicks",
    "EntanglerCore",
    "InputEdges",
    "LinkedCores",
    "NodeCore",
    "Outcome",
    "Run",
    "Window",
    "counter_patterns_word",
    "heralds_word",
    "timing_word",
]
