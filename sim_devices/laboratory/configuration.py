"""Configuration of a laboratory: link, seed, faults."""

import time
from dataclasses import dataclass, field

from sim_devices.laboratory.tampering import Tampering
from sim_devices.physics.drift import Drift
from sim_devices.physics.link import LinkModel

FAULT_KINDS = ("alice_ion_loss", "bob_ion_loss", "lock_loss")


@dataclass(frozen=True)
class LaboratoryConfiguration:
    """Everything that a run of the simulated laboratory depends on; the same seed gives the same run.

    Probabilities are per round. `scheduled_faults` are (round index, kind) with a kind of `FAULT_KINDS`.
    """

    seed: int = 0
    link: LinkModel = field(default_factory=LinkModel)
    chunk: int = 128
    ion_loss_probability_alice: float = 0.0
    ion_loss_probability_bob: float = 0.0
    lock_loss_probability: float = 0.0
    lock_loss_duration: float = 0.05  # s
    scheduled_faults: tuple[tuple[int, str], ...] = ()
    tampering: Tampering = field(default_factory=Tampering)
    drift: Drift = field(default_factory=Drift)
    start_unix: float = field(default_factory=time.time)  # what laboratory time counts from

    def __post_init__(self) -> None:
        if not 1 <= self.chunk <= 4096:
            raise ValueError(f"chunk is {self.chunk}, must be 1..4096 heralds")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, must not be negative")
        for name in ("ion_loss_probability_alice", "ion_loss_probability_bob", "lock_loss_probability"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1)")
        for index, kind in self.scheduled_faults:
            if kind not in FAULT_KINDS or index < 0:
                raise ValueError(f"scheduled fault {(index, kind)!r}: kinds are {', '.join(FAULT_KINDS)}")
