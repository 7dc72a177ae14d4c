"""Entanglement attempts and their heralds (PROTOCOL 3.2)."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from diqkd_node.configuration.quantities import Count, Integer, OutputWindow, PhotonWindow, Step, Time
from diqkd_postproc.protocol.roles import HERALD_PATTERNS

COARSE_CYCLE = 8e-9
CYCLE_OVERHEAD = 4 * COARSE_CYCLE
"""s; the entangler core's state machine adds it to the programmed length of an attempt."""

SHORTEST_ATTEMPT = 20 * COARSE_CYCLE + CYCLE_OVERHEAD
LONGEST_ATTEMPT = 1023 * COARSE_CYCLE + CYCLE_OVERHEAD
"""s; the entangler core counts coarse cycles of an attempt in ten bits."""


def _permutation(patterns: tuple[int, ...]) -> tuple[int, ...]:
    if sorted(patterns) != sorted(HERALD_PATTERNS):
        raise ValueError(
            f"is no permutation of {list(HERALD_PATTERNS)}, the coincidences of two detectors that a record "
            "holds; give these four in the order of their indices"
        )
    return patterns


class AttemptParameters(Step):
    """Times of an attempt, and where the node learns of heralds: from the entangler core, or without one from
    TTL inputs ("ttl"), which a kernel plays and reads in less than `ttl_attempt_time`.

    attempt_time: from one attempt to the next, in whole coarse cycles of 8 ns;
    outputs: start and stop of the core's outputs: 422 sigma, 1092, picosecond trigger, spare;
    photon_window: of all detectors, after the pulse; windows_per_search: between two checks of ion, lock and
    peer; herald_patterns: their order gives the pattern's index in the kernel and in `pattern_phase_turns`.
    """

    source: Literal["entangler", "ttl"] = "entangler"
    attempt_time: Time = 1e-6
    ttl_attempt_time: Time = 40e-6
    window_time: Time = 500e-6
    windows_per_search: Count = 200
    herald_patterns: Annotated[tuple[Integer, ...], AfterValidator(_permutation)] = HERALD_PATTERNS
    outputs: tuple[OutputWindow, OutputWindow, OutputWindow, OutputWindow] = (
        (0.0, 0.50e-6),
        (0.0, 0.60e-6),
        (0.65e-6, 0.70e-6),
        (0.0, 0.0),
    )
    photon_window: PhotonWindow = (0.02e-6, 0.06e-6)

    @model_validator(mode="after")
    def _in_a_cycle(self) -> Self:
        if self.source == "ttl":
            return self
        if not SHORTEST_ATTEMPT <= self.attempt_time <= LONGEST_ATTEMPT:
            raise ValueError(
                f"attempt_time={self.attempt_time} s does not fit the entangler core's counter, which takes "
                f"{SHORTEST_ATTEMPT:g} to {LONGEST_ATTEMPT:g} s; give a time within"
            )
        if (last := max(stop for _, stop in self.outputs)) > self.attempt_time - CYCLE_OVERHEAD:
            raise ValueError(
                f"outputs has a stop at {last} s, after attempt_time={self.attempt_time} s less the "
                f"{CYCLE_OVERHEAD:g} s that the entangler core adds to a cycle; stop it earlier"
            )
        return self
