"""Outcome of a round's readout: what the laboratory finds in the node's ion under the effect of its pulses.

A node's process is never given the state of its ion. Results for effects that the laboratory knows come with
the entry of the tape, to save a round trip; everything else is requested. Which of them a process may have in
advance depends on the order of the two measurements (see `sim_devices.laboratory.joint_outcomes`):

* who measures first (Bob in `ordered`, Alice in `late-type`) has results of her or his reduced state;
* who measures second has those of key rounds only, conditional on what the first measures in them. Results
  for both settings of a test cannot exist beside the other node's: the devices would be local (Bell's
  theorem).
"""

from collections.abc import Callable
from typing import Any

from sim_devices.apparatus import wire
from sim_devices.apparatus.client import LaboratoryClient
from sim_devices.apparatus.effects import UNREAD, Effect
from sim_devices.apparatus.heralded_round import HeraldedRound

_NONE = (wire.MAX_REGISTERED, wire.MAX_REGISTERED)


class RoundOutcomes:
    """Of one node.

    :ivar registered: effects by their number in `results` of coming entries, and the number of the partner's
        effect on which those results are conditional
    """

    def __init__(self, role: str) -> None:
        self.registered: dict[Effect, tuple[int, int]] = {}
        self._role = role
        self._late = self._first = False
        self._epoch = -1
        self._last_key_effect: Effect | None = None
        self.listed: Callable[[HeraldedRound], bool] | None = (
            None  # an adversary's device, see `line_tampering`
        )
        self._unreported: tuple[int, Effect] | None = None  # round of which the laboratory knows no effect

    def connect(self, client: LaboratoryClient) -> None:
        """Request results of this laboratory."""
        self._client = client
        self._late = client.protocol == "late-type"
        self._first = (self._role == "alice") == self._late

    def measure(self, current: HeraldedRound, effect: Effect) -> bool:
        """Whether the ion is bright in the round."""
        entry: Any = current.entry
        if entry[wire.PRESET]:
            return bool(entry[wire.PRESET] == 1)
        if self.listed is not None and self.listed(current):
            if self._first:
                self._client.report(entry[wire.INDEX], UNREAD)  # its ion is left alone
            return bool(entry[wire.ANSWER] == 1)
        if not current.type_known and not (self._first and self._late):
            return True  # light on an ion that nobody measures: the round has ended without a type
        number, partner = self.registered.get(effect, _NONE)
        current.effect_number = number
        if number < entry[wire.NUM_RESULTS] and self._in_advance(current, partner):
            if self._first and self._late:
                self._unreported = entry[wire.INDEX], effect
                if current.round_type == wire.TEST:
                    self.report_test(entry[wire.INDEX])
            return bool(entry[wire.RESULTS] >> number & 1)
        bright, number, partner = self._client.measure(
            entry[wire.INDEX], effect, self._kind(current, effect), current.partner_effect
        )
        if number < wire.MAX_REGISTERED:
            self.registered[effect] = number, partner
            current.effect_number = number
        return bright

    def skip(self, current: HeraldedRound) -> None:
        """The round ends without a readout: a partner who measures after this node must not wait for one."""
        if self._first and current.round_type == wire.TEST:
            entry: Any = current.entry
            self._client.report(entry[wire.INDEX], UNREAD)

    def report_test(self, index: int) -> None:
        """Round `index` is a test: Bob's result will depend on what Alice has measured in it
        (`late-type`)."""
        if self._unreported is not None and self._unreported[0] == index:
            self._client.report(*self._unreported)
            self._unreported = None

    def enter_epoch(self, epoch: int) -> None:
        """The light has drifted: the same pulses now make other effects."""
        if epoch != self._epoch:
            self._epoch = epoch
            self.registered.clear()

    def _in_advance(self, current: HeraldedRound, partner: int) -> bool:
        if self._late:
            return self._first or (current.round_type == wire.KEY and current.partner_effect == partner)
        return current.round_type == wire.KEY

    def _kind(self, current: HeraldedRound, effect: Effect) -> int:
        """Round type, and whether Bob's effect in `ordered` is that of his last key round, too: only then is
        it the usual one, on which Alice's results in advance may be conditional."""
        if not self._first or self._late or current.round_type != wire.KEY:
            return current.round_type
        repeated = effect == self._last_key_effect
        self._last_key_effect = effect
        return wire.USUAL_KEY if repeated else wire.KEY
