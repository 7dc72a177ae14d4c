"""What goes wrong in the trials of a campaign: starts with faults at random points.

Every scenario gives a `Trial`'s options and its starts. They are short acquisitions, so that hundreds of
faults fit into minutes; a fault that never comes because the run was complete before is not counted.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from campaigns.faults.apparatus import KILLED_AT, KILLED_AT_LATE, STEPS
from campaigns.faults.trial import Start
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import ROLES
from sim_devices.adversaries.link_proxy import LinkFault

KILLS_A_TRIAL = 5
PROTOCOL_NAMES = ("ordered", "late-type")
CALLS_OF_A_START = 30_000  # Python and C calls of a node from its first batch to its record, at 300 rounds
CALLS_BEFORE_BATCH = 100_000  # from the device database to the first batch
BYTES_OF_A_RUN = 2_500  # over the classical link, each way, with batches of 30 rounds


def short_parameters(num_rounds: int, **changes: Any) -> ProtocolParameters:
    """A run of which half the rounds are tests, too short for a proof; `changes` of any field."""
    fields: dict[str, Any] = {
        "num_rounds": num_rounds,
        "test_numerator": 128,
        "test_bits": 8,
        "omega_threshold": 0.8,
        "syndrome_bits": 3 * num_rounds // 4,
        "key_bits": 0,
        "soundness_error": 1e-10,
        "one_bit_error": 1e-12,
        "design_chsh_score": 2.64,
        "design_qber": 0.018,
    }
    return ProtocolParameters.model_validate(fields | changes)


@dataclass(frozen=True)
class Case:
    """One trial: its name, options of `Trial`, and its starts."""

    name: str
    starts: list[Start]
    options: dict[str, Any] = field(default_factory=dict)


def kills(rng: random.Random, points: int) -> Iterator[Case]:
    """SIGKILL of a node, of both at the same time, and of the laboratory, in both protocols by turns."""
    done = 0
    while done < points:
        starts = []
        for _ in range(min(KILLS_A_TRIAL, points - done)):
            if rng.random() < 0.1:
                starts.append(Start(kill_laboratory=rng.randrange(1, 60)))
            else:
                where = "start" if rng.random() < 0.15 else "batch"
                calls = rng.randrange(CALLS_BEFORE_BATCH if where == "start" else CALLS_OF_A_START)
                plans = {rng.choice(ROLES): {"death": {"from": where, "calls": calls}}}
                starts.append(Start(plans, kill_other=rng.random() < 0.3))
        protocol = PROTOCOL_NAMES[done // KILLS_A_TRIAL % 2]
        done += len(starts)
        yield Case("kill", starts, {"protocol": protocol})


def step_kills(rng: random.Random, points: int) -> Iterator[Case]:
    """SIGKILL of a node, or of both, at every step of a round, in both protocols."""
    for number, protocol in enumerate(PROTOCOL_NAMES):
        steps = [
            (role, step)
            for role, names in (KILLED_AT if protocol == "ordered" else KILLED_AT_LATE).items()
            for step in names
        ]
        rng.shuffle(steps)
        wanted = points // 2 + points % 2 * number
        for first in range(0, wanted, KILLS_A_TRIAL):
            starts = []
            for place in range(min(KILLS_A_TRIAL, wanted - first)):
                role, step = steps[(first + place) % len(steps)]
                fault = {"kind": "kill", "step": step, "round": 12 * place + rng.randrange(10)}
                starts.append(Start({role: {"faults": [fault]}}, kill_other=rng.random() < 0.7))
            yield Case("step", starts, {"protocol": protocol, "batch_rounds": 30})


def ion_losses(rng: random.Random, points: int) -> Iterator[Case]:
    """An ion lost in every step of a round, at either node."""
    for number in range(points):
        role = ROLES[number % 2]
        steps = rng.sample(STEPS, len(STEPS))
        faults = [
            {"kind": "ion_loss", "step": step, "round": 15 + 30 * place + rng.randrange(20)}
            for place, step in enumerate(steps)
        ]
        yield Case("ion", [Start({role: {"faults": faults}})], {"arguments": {"reload_interval": 0.2}})


def lock_losses(rng: random.Random, points: int) -> Iterator[Case]:
    """The 674 nm lock lost in every step of a round, seen by both nodes or by one first."""
    steps = [step for step in STEPS if step != "loading"]
    for number in range(points):
        roles = (ROLES, ("alice",), ("bob",))[number % 3]
        faults = [
            {"kind": "lock_loss", "step": step, "round": 15 + 35 * place + rng.randrange(20)}
            for place, step in enumerate(rng.sample(steps, len(steps)))
        ]
        yield Case("lock", [Start({role: {"faults": faults} for role in roles})])


def link_faults(rng: random.Random, points: int) -> Iterator[Case]:
    """The classical link between the nodes cut, stalled, half closed, or with a bit flipped."""
    actions = ("drop", "stall", "half_close", "corrupt")
    options = {"arguments": {"stall_timeout": 5.0}, "batch_rounds": 30}
    for number in range(points):
        fault = LinkFault(actions[number % 4], rng.choice(ROLES), rng.randrange(BYTES_OF_A_RUN))
        yield Case("link", [Start(link_fault=fault)], options)


def full_disks(rng: random.Random, points: int) -> Iterator[Case]:
    """No space left for rounds, or for the sealed record, at either node."""
    for number in range(points):
        at = ({"at": "rounds", "after": rng.randrange(5)}, {"at": "record"})[number // 2 % 2]
        yield Case("disk", [Start({ROLES[number % 2]: {"full_disk": at}})])


def missed_heralds(rng: random.Random, points: int) -> Iterator[Case]:
    """A herald that only one of the nodes sees, so that the other sees one more."""
    for number in range(points):
        rounds = [10 + rng.randrange(80), 140 + rng.randrange(100)]
        faults = [{"kind": "missed_herald", "round": place} for place in rounds]
        yield Case("herald", [Start({ROLES[number % 2]: {"faults": faults}})])


SCENARIOS: dict[str, tuple[Callable[[random.Random, int], Iterator[Case]], int]] = {
    "kills": (kills, 200),
    "steps": (step_kills, 120),
    "ion": (ion_losses, 8),
    "lock": (lock_losses, 6),
    "link": (link_faults, 40),
    "disk": (full_disks, 8),
    "heralds": (missed_heralds, 12),
}
