"""Random walks of two parties, an adversary and a power switch.

    python -m campaigns.session_walks [--steps 20000]

A Hypothesis state machine. A step lets a party work for a while, delivers, drops, doubles, reorders or
changes what is on the line, kills a party (what it has not stored is gone), starts both again, or puts an old
copy of a key store, a journal or both in place. After every step:

- no pad has protected two different messages that left their sender, and none was bound to two messages;
- keys are equal where both parties have one, and Alice has none that Bob never had.

At the end of a walk both start on a quiet line: both get the key, or neither does, except where Alice has
refused a decision. Where an old copy was put in place, docs/session.md says what holds instead: Alice still
never sends two messages under one pad, Bob at most two decisions.

Hypothesis shrinks a failing walk and prints it as a program. About two minutes.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections import Counter

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from campaigns.session_attacks import (
    ALICE,
    BOB,
    NAMES,
    PADDED,
    frames_of,
    new_parties,
    resealed,
    small_session,
)
from diqkd_postproc.protocol.errors import DiqkdError
from diqkd_postproc.session.events import Aborted
from diqkd_postproc.session.messages import MessageType

PARAMETERS = small_session()
SIDES = st.sampled_from((ALICE, BOB))
COUNTS: Counter[str] = Counter()


class Walk(RuleBasedStateMachine):
    """Two parties, the line between them, and what has ever left them."""

    @initialize()
    def begin(self) -> None:
        """Both start."""
        self.parties = new_parties(PARAMETERS)
        self.lines: tuple[list[bytes], list[bytes]] = ([], [])  # by receiver
        self.sent: dict[tuple[int, int], set[bytes]] = {}
        self.bound: dict[tuple[int, str], set[bytes]] = {}
        self.copies: list[tuple[int, object, list]] = []
        self.old_copy = [False, False]
        self.had_key = [False, False]
        COUNTS["walks"] += 1

    def _count(self, name: str) -> None:
        COUNTS["steps"] += 1
        COUNTS[name] += 1

    def _note(self) -> None:
        for side, party in enumerate(self.parties):
            for pad, digest in party.ledger.bindings.items():
                self.bound.setdefault((side, pad), set()).add(digest)
            self.had_key[side] |= party.ledger.key is not None

    @rule(side=SIDES, turns=st.integers(1, 12))
    def work(self, side: int, turns: int) -> None:
        """A party handles some events; what it sends is on the line."""
        self._count("work")
        party = self.parties[side]
        for _ in range(turns):
            if not party.turn():
                break
            self._note()
        if not party.killed:
            self._send(side)

    @rule(side=SIDES)
    def proceed(self, side: int) -> None:
        """A party reads all that is on the line and works until it waits."""
        self._count("proceed")
        while self.lines[side]:
            self._receive(self.parties[side], self.lines[side].pop(0))
        while self.parties[side].turn():
            self._note()
        if not self.parties[side].killed:
            self._send(side)

    proceed_more = rule(side=SIDES)(proceed.hypothesis_stateful_rule.function)
    proceed_most = rule(side=SIDES)(proceed.hypothesis_stateful_rule.function)

    def _send(self, side: int) -> None:
        for frame in frames_of(self.parties[side].engine.data_to_send()):
            if frame[5] in PADDED:
                self.sent.setdefault((side, frame[5]), set()).add(frame)
            self.lines[1 - side].append(frame)

    @rule(side=SIDES, frames=st.integers(1, 6))
    def deliver(self, side: int, frames: int) -> None:
        """The oldest frames on the line arrive."""
        self._count("deliver")
        party = self.parties[side]
        for _ in range(min(frames, len(self.lines[side]))):
            self._receive(party, self.lines[side].pop(0))

    def _receive(self, party, data: bytes) -> None:
        try:
            party.engine.receive_data(data)
        except DiqkdError as error:
            party.error = party.error or error

    def _has_frames(self) -> bool:
        return any(self.lines)

    @precondition(_has_frames)
    @rule(data=st.data(), how=st.sampled_from(("drop", "double", "late", "flip", "cut", "reflect")))
    def attack(self, data: st.DataObject, how: str) -> None:
        """The adversary does something to one frame on the line."""
        self._count(how)
        side = data.draw(st.sampled_from([side for side in (ALICE, BOB) if self.lines[side]]))
        line = self.lines[side]
        place = data.draw(st.integers(0, len(line) - 1))
        frame = line.pop(place)
        if how == "double":
            line[place:place] = [frame, frame]
        elif how == "late":
            line.append(frame)
        elif how == "reflect":
            self.lines[1 - side].append(frame)
        elif how == "flip":
            bit = data.draw(st.integers(0, 8 * len(frame) - 1))
            changed = bytearray(frame)
            changed[bit // 8] ^= 1 << bit % 8
            line.insert(place, resealed(changed) if data.draw(st.booleans()) else bytes(changed))
        elif how == "cut":
            line.insert(place, frame[: data.draw(st.integers(1, len(frame)))])

    @rule(side=SIDES)
    def kill(self, side: int) -> None:
        """A party's process is gone; so is the connection."""
        self._count("kill")
        self.parties[side].killed = True
        self._disconnect()

    def _disconnect(self) -> None:
        for side, party in enumerate(self.parties):
            self.lines[side].clear()
            if not party.killed:
                self._receive(party, b"")
                while party.turn():
                    self._note()

    @rule()
    def start_again(self) -> None:
        """Both start with what they kept."""
        self._count("start")
        self._start()

    def _start(self) -> None:
        for side, party in enumerate(self.parties):
            self.lines[side].clear()
            party.start()

    @rule(side=SIDES)
    def back_up(self, side: int) -> None:
        """Somebody copies a party's folder."""
        self._count("copy")
        party = self.parties[side]
        self.copies.append((side, copy.deepcopy(party.ledger), list(party.journal)))

    @precondition(lambda self: self.copies)
    @rule(data=st.data(), what=st.sampled_from(("both", "both", "key store", "journal")))
    def restore(self, data: st.DataObject, what: str) -> None:
        """Somebody puts an old copy back, and both start."""
        self._count(f"restore {what}")
        side, ledger, journal = data.draw(st.sampled_from(self.copies))
        party = self.parties[side]
        if what != "journal":
            party.ledger = copy.deepcopy(ledger)
        if what != "key store":
            party.journal[:] = journal
        self.old_copy[side] = True
        self._start()

    @invariant()
    def no_pad_for_two_messages(self) -> None:
        """The purpose of it all."""
        if not hasattr(self, "sent"):
            return
        for (side, kind), frames in self.sent.items():
            excused = side == BOB and kind == MessageType.DECISION and self.old_copy[BOB]
            assert len(frames) == 1 or excused, f"{NAMES[side]} sent two of {MessageType(kind).name}"
        for (side, pad), digests in self.bound.items():
            assert len(digests) == 1 or self.old_copy[side], f"{NAMES[side]} bound {pad} to two messages"

    @invariant()
    def keys_agree(self) -> None:
        """Equal where both have one; Alice never first."""
        if not hasattr(self, "sent"):
            return
        alice, bob = (party.ledger.key for party in self.parties)
        assert alice is None or bob is None or np.array_equal(alice, bob), "the keys differ"
        assert not self.had_key[ALICE] or self.had_key[BOB], "Alice had a key before Bob"

    def teardown(self) -> None:
        """A quiet line at last."""
        if not hasattr(self, "sent"):
            return
        self._start()
        moved = True
        while moved:
            moved = False
            for side, party in enumerate(self.parties):
                while party.turn():
                    moved = True
                    self._note()
                self._send(side)
                while self.lines[1 - side]:
                    moved = True
                    self._receive(self.parties[1 - side], self.lines[1 - side].pop(0))
        self.no_pad_for_two_messages()
        self.keys_agree()
        alice, bob = self.parties
        ending = "".join("key " if party.ledger.key is not None else "none " for party in self.parties)
        COUNTS[f"ended {ending.strip()}" + (" after old copies" if any(self.old_copy) else "")] += 1
        if alice.ledger.key is None and bob.ledger.key is not None and not any(self.old_copy):
            refused = isinstance(alice.over, Aborted) and alice.over.wrong_tag is MessageType.DECISION
            assert refused, f"only Bob has a key: {alice.error!r} {bob.error!r}"


def campaign(num_steps: int) -> dict[str, int]:
    """Walk at least `num_steps` steps; what happened how often. A short walk is always the same."""
    COUNTS.clear()
    chosen = settings(
        max_examples=max(num_steps // 50, 5),
        stateful_step_count=60,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        derandomize=num_steps < 5000,
    )
    while COUNTS["steps"] < num_steps:
        run_state_machine_as_test(Walk, settings=chosen)
    return dict(COUNTS)


def main() -> int:
    """Print the report; a failing walk is printed by Hypothesis and raises."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    report = campaign(arguments.steps)
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        for name, count in sorted(report.items()):
            print(f"{name:<40}{count:>10,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
