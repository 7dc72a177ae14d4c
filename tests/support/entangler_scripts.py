"""Random scripts for the entangler core: registers, runs, edges and reads of one or two cores."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from sim_devices.engines.entangler_core import (
    CONFIG,
    COUNTER_PATTERNS,
    COUNTS,
    CYCLE_LENGTH,
    HERALDS,
    RUN,
    STATUS,
    TIMESTAMPS,
    TIMING,
    AttemptEdges,
    InputEdges,
)
from tests.support.entangler_operations import Operation

# Registers that a kernel reads after a run, and those that mean the same within one.
READABLE = [*range(STATUS, STATUS + 5), *range(TIMESTAMPS, TIMESTAMPS + 6), *range(COUNTS, COUNTS + 8), 0x38]
READABLE_IN_A_RUN = [*range(STATUS, STATUS + 4), *range(COUNTS, COUNTS + 8)]


@dataclass
class _Core:
    """What the registers of one core are set to."""

    core: int
    config: int
    cycle_length: int
    gates: list[tuple[int, int]]
    slots: list[int]

    @property
    def follows(self) -> bool:
        return not self.config & 0b110


def random_script(random: Random, num_cores: int, start: int) -> tuple[list[Operation], int]:
    """A script from coarse cycle `start` on, and the cycle in which it ends with all cores at rest."""
    length = random.choice([*range(1, 30), 40, 63, random.randrange(65, 140)])
    slots = [random.choice([1, 2, 3, 5, 6, 9, 10, 12, random.randrange(16)]) for _ in range(4)]
    if random.random() < 0.3:
        slots[1] = slots[0]
    cores = [_random_core(random, core, num_cores, length, slots) for core in range(num_cores)]
    operations = [operation for core in cores for operation in _register_writes(random, core, start)]
    begin = start + 24
    end = begin
    for _ in range(random.choice([1, 1, 1, 2])):
        operations_of_runs, end = _runs(random, cores, begin)
        operations += operations_of_runs
        begin = end + 4
    for core in cores:
        delay = end + random.randrange(40)
        for address in READABLE:
            operations.append(Operation(delay, core.core, address))
            delay += 1
        end = max(end, delay)
    return operations, end + 44


def _random_core(random: Random, core: int, num_cores: int, length: int, slots: list[int]) -> _Core:
    enabled = random.random() < 0.9
    if num_cores == 1:
        config = random.choice([0b100, 0b100, 0b100, 0b110, 0b110, 0b110, 0b110, 0b010, 0b000])
    else:
        config = [0b010, 0b000][core] if random.random() < 0.95 else random.choice([0, 2, 4, 6])
    if random.random() < 0.05:
        length = random.randrange(1, 30)
    if random.random() < 0.1:
        slots = [random.randrange(16) for _ in range(4)]
    # Mostly gates that fit into the attempt, some that wrap around the 14 bits of their limits.
    start = random.randrange(0, min(40, 4 * length + 1))
    width = min(60, 4 * length + 2)
    gates = [
        (start, start + random.randrange(width)) if random.random() < 0.9 else (random.randrange(16384),) * 2
        for _ in range(4)
    ]
    return _Core(core, config | enabled, length, gates, slots)


def _register_writes(random: Random, core: _Core, start: int) -> list[Operation]:
    length, slots = core.cycle_length, core.slots
    enables = random.choice([0b1111, 0b0111, 0b0011, 0b0001, random.randrange(16)])
    if random.random() < 0.85:
        enables &= ~sum(1 << slot for slot in range(4) if not slots[slot])
    registers = [(CONFIG, core.config), (CYCLE_LENGTH, length)]
    registers.append((HERALDS, enables << 16 | sum(slot << 4 * i for i, slot in enumerate(slots))))
    for output in range(4):
        on, off = (random.choice([0, 1, length, length + 1, random.randrange(length + 4)]) for _ in range(2))
        registers.append((TIMING + output, off << 16 | on))
    for detector, (opens, closes) in enumerate(core.gates):
        registers.append((TIMING + 4 + detector, closes << 16 | opens))
    for counter in range(random.randrange(5)):
        registers.append((COUNTER_PATTERNS + counter, random.getrandbits(20)))
    return [Operation(start + i, core.core, *register) for i, register in enumerate(registers)]


def _random_edges(random: Random, core: _Core, heralding: int, slot: int) -> InputEdges:
    """Edges of a run: most clicks near the gates' limits, and a pattern of the list in one attempt."""
    length = core.cycle_length
    first, last = (-1, length + 2) if core.follows else (-3, length)
    anywhere = random.randrange(8 * first, 8 * last + 8)
    reference = random.choice([None, 0, 4, 4, 4, 8 * (length // 3) + 3, anywhere])
    attempts = []
    density = random.choice([0, 0.2, 0.8])
    for attempt in range(random.choice([3, 12, 40])):
        if attempt != heralding and random.random() >= density:
            continue
        references = None
        if random.random() < (0.1 if attempt == heralding else 0.3):
            references = [random.randrange(8 * first, 8 * last + 8) for _ in range(random.randrange(3))]
        at = references[0] if references else (reference or 0)
        detectors = [random.randrange(4) for _ in range(random.choice([0, 1, 1, 2, 2, 3, 5]))]
        inside = attempt == heralding and random.random() < 0.8
        if inside:
            detectors = [detector for detector in range(4) if core.slots[slot] >> detector & 1]
        clicks = []
        for detector in detectors:
            opens, closes = core.gates[detector]
            time = at + random.choice([opens, closes, (opens + closes) // 2])
            time += 0 if inside else random.randrange(-2, 3)
            if (not inside and random.random() < 0.2) or not 8 * first <= time < 8 * last + 8:
                time = random.randrange(8 * first, 8 * last + 8)
            clicks.append((time, detector))
        attempts.append(AttemptEdges(attempt, tuple(clicks), references))
    return InputEdges(reference, attempts)


def _runs(random: Random, cores: list[_Core], begin: int) -> tuple[list[Operation], int]:
    """One run of each core, sometimes two, and reads while they are under way."""
    period = max(core.cycle_length for core in cores) + 4
    heralding, slot = random.randrange(6), random.randrange(4)
    operations: list[Operation] = []
    end = begin
    busy: set[tuple[int, int]] = set()
    for core in cores:
        at = begin + core.core * random.choice([0, 0, 1, 4, 6])
        for _ in range(random.choice([1, 1, 1, 1, 1, 2])):
            at += random.choice(
                [random.randrange(12), random.randrange(12), random.randrange(2 * period + 8)]
            )
            while (core.core, at) in busy:
                at += 1
            duration = random.choice([random.randrange(2 * period), *[random.randrange(14 * period)] * 3])
            duration = min(duration, 900)
            busy.add((core.core, at))
            edges = _random_edges(random, core, heralding, slot)
            operations.append(Operation(at, core.core, RUN, duration, edges))
            end = max(end, at + duration + 2 * period + 8)
            at += random.choice([1, random.randrange(1, 12), duration + random.randrange(2 * period + 8)])
    for _ in range(random.choice([0, 0, 0, 4])):
        core = random.choice(cores)
        at = random.randrange(begin, end)
        if not {(core.core, at - 1), (core.core, at), (core.core, at + 1)} & busy:
            busy.add((core.core, at))
            operations.append(Operation(at, core.core, random.choice(READABLE_IN_A_RUN)))
    return operations, end
