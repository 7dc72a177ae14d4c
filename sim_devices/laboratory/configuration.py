"""Configuration of a laboratory: link, seed, faults."""

import time
from dataclasses import dataclass, field

import numpy as np

from sim_devices.apparatus.wire import PROTOCOLS
from sim_devices.laboratory.tampering import Tampering
from sim_devices.physics.drift import Drift
from sim_devices.physics.link import LinkModel

FAULT_KINDS = ("alice_ion_loss", "bob_ion_loss", "lock_loss")


@dataclass(frozen=True)
class LaboratoryConfiguration:
    """Everything that a run of the simulated laboratory depends on; the same seed gives the same run.

    Probabilities are per round. `label_mismatch` is that of a herald of which the slave's core sees another
    pattern than the master's; the default is for photons at 24 ns + Exp(7.4 ns), a gate that closes at 60 ns,
    and clocks of 1 ns that are not in phase. `scheduled_faults` are (round index, kind) with a kind of
    `FAULT_KINDS`.
    """

    seed: int = 0
    protocol: str = "ordered"  # which node measures first, see `joint_outcomes`
    link: LinkModel = field(default_factory=LinkModel)
    chunk: int = 128
    ion_loss_probability_alice: float = 0.0
    ion_loss_probability_bob: float = 0.0
    lock_loss_probability: float = 0.0
    lock_loss_duration: float = 0.05  # s
    label_mismatch: float = 1 / 1700
    scheduled_faults: tuple[tuple[int, str], ...] = ()
    tampering: Tampering = field(default_factory=Tampering)
    drift: Drift = field(default_factory=Drift)
    start_unix: float = field(default_factory=time.time)  # what laboratory time counts from

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol is {self.protocol!r}; protocols are {', '.join(PROTOCOLS)}")
        if not 1 <= self.chunk <= 4096:
            raise ValueError(f"chunk is {self.chunk}, must be 1..4096 heralds")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, must not be negative")
        for name in (
            "ion_loss_probability_alice",
            "ion_loss_probability_bob",
            "lock_loss_probability",
            "label_mismatch",
        ):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1)")
        for index, kind in self.scheduled_faults:
            if kind not in FAULT_KINDS or index < 0:
                raise ValueError(f"scheduled fault {(index, kind)!r}: kinds are {', '.join(FAULT_KINDS)}")

    @property
    def eve_seed(self) -> int:
        """Seed of the coins of an adversary on the lines (`line_tampering`), in a stream of their own."""
        return int(np.random.SeedSequence([self.seed, 6]).generate_state(1, np.uint64)[0])
