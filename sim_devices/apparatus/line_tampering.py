"""Lines and station in the hands of an adversary: what she makes of an edge, and what the devices know by
her.

She owns the wires between the nodes and the station, so that she decides when a node is heralded, and which
edges a receiver gets: at other times, with other levels, more of them or none. What the sender has sent goes
on being known to the simulation, which needs it for the ions. Some attacks have devices that answer key
rounds from a list of hers and tests with their ions; how a device tells the two apart is the point of the
attack:

* `skew-...`: Bob is heralded first and gets a token of hers, and his T is known to Alice's device before it
  answers;
* `strobe-delay`: the strobe of T = 0 is delayed, and Alice's device tells the type by the time of its own
  pulse;
* `early-type`: T' = 0 in every round, so that in `ordered` both devices answer tests from the list, too, and
  win them, Alice's setting being 0.

Her coins are the same at both nodes: they follow from one seed and the index of the round.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim_devices.apparatus import wire
from sim_devices.apparatus.partner_connection import ROUND_TYPE, TOKEN

if TYPE_CHECKING:
    from sim_devices.apparatus.heralded_round import HeraldedRound

LINE_ATTACKS = {
    "skew-random": "Bob is heralded first and gets a random token; Alice's device learns T before it answers",
    "skew-constant": "as skew-random, with the token 0",
    "skew-previous": "as skew-random, with the token of the round before",
    "strobe-delay": "the strobe of T is delayed in key rounds, which Alice's device sees in its own pulse",
    "early-type": "T' = 0 before Bob has announced T, and both devices answer from a list",
    "early-key": "T' = 0 before Bob has announced T",
    "early-test": "T' = 1 before Bob has announced T",
    "drop-type": "T' never comes",
    "drop-key-type": "T' never comes if T = 0",
    "flip-type": "T' is not T",
    "forge-token": "r' is random",
    "flip-token": "r' is not r",
    "drop-token": "r' never comes",
    "flip-setting": "x' is not x",
    "drop-setting": "x' never comes",
    "early-setting": "x' = 0 before Alice has sent x",
    "duplicate": "a second edge with the other level follows each edge",
    "early-edge": "an edge with the other level comes before the gate opens",
    "flood": "100 000 edges with the other level follow each edge",
}
FLOOD = 100_000
AT_ONCE_MU = 1 << 40  # in place of a time: as soon as the receiver's gate is open


@dataclass(frozen=True)
class LineTampering:
    """An attack by name, '' for none; the share of the rounds that are attacked; the delay of
    `strobe-delay`."""

    attack: str = ""
    share: float = 1.0
    delay_us: float = 60.0

    def __post_init__(self) -> None:
        if self.attack and self.attack not in LINE_ATTACKS:
            raise ValueError(f"line attack {self.attack!r} is none of {', '.join(LINE_ATTACKS)}")
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"share of attacked rounds is {self.share}, must be in [0, 1]")
        if not 0.0 < self.delay_us < 1e6:
            raise ValueError(f"delay of the strobe is {self.delay_us} us, must be in (0, 1e6)")

    @property
    def has_list(self) -> bool:
        """Whether the devices have a list of answers."""
        return self.attack.startswith("skew-") or self.attack in ("strobe-delay", "early-type")


class Eve:
    """The adversary at one node."""

    def __init__(self, tampering: LineTampering, seed: int, role: str) -> None:
        self._attack = tampering.attack
        self._share = tampering.share
        self._delay_mu = round(1e3 * tampering.delay_us)
        self._seed = seed
        self._bob = role == "bob"
        self.skews = self._attack.startswith("skew-")
        self.has_list = tampering.has_list
        self._token = 0  # of the round before
        self._earliest_mu = 1 << 62  # start of Alice's basis pulse, after the herald

    def attacks(self, index: int) -> bool:
        """Whether she attacks in a round."""
        return self._coin("round", index) < self._share

    def edges(self, line: int, index: int, after_herald_mu: int, level: int) -> list[tuple[int, int]]:
        """Edges (time after the herald, level) that the receiver gets for one that was sent."""
        sent = [(after_herald_mu, level)]
        if self.skews and self._bob and line == TOKEN:
            self._token = level
            return [] if self.attacks(index) else sent
        if not self.attacks(index):
            return sent
        if self.skews:
            return [(AT_ONCE_MU, level)] if line == ROUND_TYPE else sent
        flipped = (after_herald_mu, 1 - level)
        match self._attack, line:
            case "strobe-delay", 1:  # a line by its place in LINES
                return [(after_herald_mu + self._delay_mu * (level == wire.KEY), level)]
            case ("early-key" | "early-type", 1) | ("early-setting", 2):
                return [(AT_ONCE_MU, 0)]
            case "early-test", 1:
                return [(AT_ONCE_MU, 1)]
            case ("drop-type", 1) | ("drop-token", 0) | ("drop-setting", 2):
                return []
            case "drop-key-type", 1:
                return sent if level == wire.TEST else []
            case ("flip-type", 1) | ("flip-token", 0) | ("flip-setting", 2):
                return [flipped]
            case "forge-token", 0:
                return [(after_herald_mu, self._bit(index))]
            case "duplicate", _:
                return [*sent, (after_herald_mu + 2_000, 1 - level)]
            case "early-edge", _:
                return [(-1, 1 - level), *sent]
            case "flood", _:
                return [*sent, *((after_herald_mu + 100 + 20 * k, 1 - level) for k in range(FLOOD))]
        return sent

    def forged_token(self, index: int) -> int:
        """Bob's token in a skewed round."""
        if self._attack == "skew-previous":
            return self._token
        return self._bit(index) if self._attack == "skew-random" else 0

    def device_lists(self, current: HeraldedRound) -> bool:
        """Whether a node's device answers from the list, as a rule because it takes this for a key round."""
        entry = current.entry
        if not self.has_list or entry is None or not self.attacks(entry[wire.INDEX]):
            return False
        if self._attack == "early-type":
            return True
        if self._bob or self.skews:
            return current.round_type == wire.KEY
        start_mu = int(current.pulses[-1][0]) if current.pulses else 0
        self._earliest_mu = min(self._earliest_mu, start_mu)
        return start_mu - self._earliest_mu > self._delay_mu // 2

    def _bit(self, index: int) -> int:
        return int(self._coin("bit", index) < 0.5)

    def _coin(self, purpose: str, index: int) -> float:
        return random.Random(f"{self._seed} {purpose} {index}").random()
