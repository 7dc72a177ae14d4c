"""Attacks on every message of a session, all of them: python -m campaigns.session_attacks [--json]

Two parties of a small session are joined in memory, and an adversary owns the line between them. For every
attack the session is run under it, then both parties are started again with what they kept, on a quiet line.
Four families, each complete at this size:

- accidents: every bit of every frame flipped.
- bits: the same by an adversary, who makes the checksum fit again.
- lengths: every frame cut at every length, and with bytes appended.
- messages: every frame dropped, doubled, late, reflected; replaced by, followed by and sent behind any frame
  of this session, and any of a session with another run, another initial key or other parameters, as it was
  and with the header of this session.

A case passes if, after the second attempt, both parties have the same key or neither has one; if Alice never
has a key that Bob has not; if no party sent two different messages under one pad; and if neither acted on its
secrets before what it acted on was authenticated. One ending is counted apart: a *decision* of Bob that was
changed, not only lost, is refused by Alice for good, and Bob keeps a key that she has not (docs/session.md).

The parties are those of the tests (tests/support/joined_parties.py). About two minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from diqkd_postproc.protocol.errors import DiqkdError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import ROLES
from diqkd_postproc.session.events import Work
from diqkd_postproc.session.framing import CHECKSUM_BYTES, FRAME_BYTES, HEADER_BYTES, checksum
from diqkd_postproc.session.messages import MessageType
from tests.support.joined_parties import RUN_ID, MemoryLedger, Party, correlated_records, small_parameters

FAMILIES = ["accidents", "bits", "lengths", "messages"]
ALICE, BOB = 0, 1
NAMES = ("Alice", "Bob")
SEED = 1
PADDED = frozenset(
    {
        MessageType.ROUND_TYPES_TAG,
        MessageType.OUTCOME_HASH,
        MessageType.CONFIRMATION,
        MessageType.DECISION,
    }
)
# What a party may only do after its check of the other side's tag has passed.
GUARDED = {
    ALICE: (Work.CHECK_ROUND_TYPES, {Work.SETTINGS, Work.SYNDROME, Work.OUTCOME_HASH, Work.CONFIRMATION}),
    BOB: (Work.CHECK_CONFIRMATION, {Work.DECODE, Work.VALIDATE, Work.COUNT_LOSSES, Work.EXTRACT}),
}
TAGGED = {
    ALICE: {MessageType.ROUND_TYPES_TAG},
    BOB: {
        MessageType.BASIS_REVELATION,
        MessageType.SYNDROME,
        MessageType.OUTCOME_HASH,
        MessageType.CONFIRMATION,
    },
}

Attack = Callable[[int, int, bytes], list[tuple[int, bytes]]]
"""(sender, number of the frame from that sender, frame) -> what arrives where instead."""


def honest(sender: int, number: int, frame: bytes) -> list[tuple[int, bytes]]:
    """A quiet line."""
    return [(1 - sender, frame)]


def small_session() -> ProtocolParameters:
    """Parameters of the smallest session whose error correction works."""
    return small_parameters(300, key_bits=24, omega_threshold=0.7)


def new_parties(
    parameters: ProtocolParameters, run_id: str = RUN_ID, seed: int = SEED
) -> tuple[Party, Party]:
    """Alice and Bob with records of a good link and matching key stores."""
    records = correlated_records(parameters, chsh_score=2.75, qber=0.005, seed=SEED, run_id=run_id)
    alice, bob = (
        Party(role, record, MemoryLedger(parameters, seed))
        for role, record in zip(ROLES, records, strict=True)
    )
    return alice, bob


def frames_of(data: bytes) -> list[bytes]:
    """The whole frames of what an honest party sends."""
    frames = []
    while data:
        length = FRAME_BYTES + int.from_bytes(data[HEADER_BYTES - 4 : HEADER_BYTES], "big")
        frames.append(data[:length])
        data = data[length:]
    return frames


@dataclass
class Trial:
    """One session under attack, then again on a quiet line."""

    parties: tuple[Party, Party]
    sent: list[tuple[int, bytes]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def converse(self, attack: Attack) -> None:
        """Run both until neither moves; then each sees the end of the stream."""
        numbers = [0, 0]
        moved = True
        while moved:
            moved = False
            for sender in (ALICE, BOB):
                moved |= self._run(sender)
                for frame in frames_of(self.parties[sender].engine.data_to_send()):
                    moved = True
                    self.sent.append((sender, frame))
                    for receiver, data in attack(sender, numbers[sender], frame):
                        self._deliver(receiver, data)
                    numbers[sender] += 1
        for party in (ALICE, BOB):
            self._deliver(party, b"")
            self._run(party)

    def _run(self, number: int) -> bool:
        party, moved = self.parties[number], False
        while party.turn():
            moved = True
        self._judge_order(number)
        return moved

    def _deliver(self, receiver: int, data: bytes) -> None:
        party = self.parties[receiver]
        try:
            party.engine.receive_data(data)
        except DiqkdError as error:
            party.error = party.error or error

    def _judge_order(self, number: int) -> None:
        check, guarded = GUARDED[number]
        performed = self.parties[number].performed
        first = next((i for i, work in enumerate(performed) if work in guarded), None)
        if first is None or self.parties[number].engine.resumed:
            return
        theirs, ours = (
            {e.message.type: e.frame for e in self.parties[n].journal} for n in (1 - number, number)
        )
        if check not in performed[:first]:
            self.problems.append(f"{NAMES[number]} worked on secrets before a tag was checked")
        if any(ours[kind] != theirs[kind] for kind in TAGGED[number]):
            self.problems.append(f"{NAMES[number]} worked on secrets after a message was changed")

    def again(self) -> None:
        """Both parties start again from what they kept."""
        for party in self.parties:
            party.start()
        self.converse(honest)

    def judge(self) -> str:
        """The ending; problems are collected."""
        alice, bob = (party.ledger.key for party in self.parties)
        if alice is not None and bob is None:
            self.problems.append("Alice has a key that Bob has not")
        if alice is not None and bob is not None and not np.array_equal(alice, bob):
            self.problems.append("the keys differ")
        tags: dict[tuple[int, int], set[bytes]] = {}
        for sender, frame in self.sent:
            if frame[5] in PADDED:
                tags.setdefault((sender, frame[5]), set()).add(frame)
        if any(len(frames) > 1 for frames in tags.values()):
            self.problems.append("two messages under one pad")
        if alice is None and bob is not None:
            return "only Bob has a key"
        return "no key" if alice is None else "same key"


@dataclass(frozen=True)
class Case:
    """An attack by name."""

    family: str
    name: str
    attack: Attack


def on_frame(sender: int, number: int, change: Callable[[bytes], list[tuple[int, bytes]]]) -> Attack:
    """The attack that changes one frame of the honest conversation."""

    def attack(who: int, which: int, frame: bytes) -> list[tuple[int, bytes]]:
        return change(frame) if (who, which) == (sender, number) else [(1 - who, frame)]

    return attack


def record_session(parameters: ProtocolParameters, run_id: str = RUN_ID, seed: int = SEED) -> Trial:
    """An honest session, for its frames."""
    trial = Trial(new_parties(parameters, run_id, seed))
    trial.converse(honest)
    assert trial.judge() == "same key"
    return trial


def numbered(trial: Trial) -> Iterator[tuple[int, int, bytes]]:
    """Sender, number and bytes of every frame of a session."""
    counts = [0, 0]
    for sender, frame in trial.sent:
        yield sender, counts[sender], frame
        counts[sender] += 1


def resealed(frame: bytes) -> bytes:
    """The frame with the checksum that fits it."""
    return frame[:-CHECKSUM_BYTES] + checksum(frame[:-CHECKSUM_BYTES])


def bit_cases(trial: Trial, by_adversary: bool) -> Iterator[Case]:
    """Every bit of every frame."""
    for sender, number, frame in numbered(trial):
        for place in range(8 * (len(frame) - CHECKSUM_BYTES * by_adversary)):

            def flip(data: bytes, sender: int = sender, place: int = place) -> list[tuple[int, bytes]]:
                changed = bytearray(data)
                changed[place // 8] ^= 1 << place % 8
                return [(1 - sender, resealed(changed) if by_adversary else bytes(changed))]

            name = f"bit {place} of {MessageType(frame[5]).name} of {NAMES[sender]}"
            family = "bits" if by_adversary else "accidents"
            yield Case(family, name, on_frame(sender, number, flip))


def length_cases(trial: Trial) -> Iterator[Case]:
    """Every prefix of every frame, and every frame with something behind it."""
    for sender, number, frame in numbered(trial):
        pieces = [frame[:length] for length in range(1, len(frame))] + [frame + b"\0", frame + bytes(26)]
        for piece in pieces:
            name = f"{len(piece)} bytes of {MessageType(frame[5]).name} of {NAMES[sender]}"
            attack = on_frame(sender, number, lambda _, s=sender, p=piece: [(1 - s, p)])
            yield Case("lengths", name, attack)


def message_cases(trial: Trial, strangers: dict[str, Trial]) -> Iterator[Case]:
    """Whole frames: dropped, doubled, late, repeated, reflected, of other sessions."""
    identity = trial.sent[-1][1][6:22]
    mine = list(numbered(trial))
    for sender, number, frame in mine:
        there = 1 - sender
        at = f"{MessageType(frame[5]).name} of {NAMES[sender]}"

        def case(name: str, *instead: tuple[int, bytes], at: str = at, key=(sender, number)) -> Case:
            return Case("messages", f"{at} {name}", on_frame(*key, lambda _: list(instead)))

        yield case("dropped")
        yield case("doubled", (there, frame), (there, frame))
        yield case("reflected", (sender, frame))
        yield case("delivered and reflected", (there, frame), (sender, frame))
        yield Case("messages", f"{at} late", late(sender, number))
        for origin, other in [("this session", trial), *strangers.items()]:
            for who, _, theirs in numbered(other):
                what = f"{MessageType(theirs[5]).name} of {NAMES[who]} of {origin}"
                dressed = resealed(theirs[:6] + identity + theirs[22:])
                for kind in {theirs, dressed}:
                    worn = "" if kind == theirs else " under this header"
                    yield case(f"replaced by {what}{worn}", (there, kind))
                    yield case(f"followed by {what}{worn}", (there, frame), (there, kind))
                    yield case(f"behind {what}{worn}", (there, kind), (there, frame))


def late(sender: int, number: int) -> Attack:
    """A frame arrives after the next one of its sender."""
    held: list[bytes] = []

    def attack(who: int, which: int, frame: bytes) -> list[tuple[int, bytes]]:
        if who == sender and which == number:
            held.append(frame)
            return []
        if who == sender and held:
            return [(1 - who, frame), (1 - who, held.pop())]
        return [(1 - who, frame)]

    return attack


def strangers_of(parameters: ProtocolParameters) -> dict[str, Trial]:
    """Honest sessions whose messages do not belong here."""
    others = small_parameters(300, key_bits=25, omega_threshold=0.7)
    return {
        "another run": record_session(parameters, run_id=RUN_ID[::-1]),
        "another initial key": record_session(parameters, seed=SEED + 1),
        "other parameters": record_session(others),
    }


def all_cases(parameters: ProtocolParameters, families: list[str]) -> list[Case]:
    """The cases of the named families."""
    trial = record_session(parameters)
    made = {
        "accidents": lambda: bit_cases(trial, by_adversary=False),
        "bits": lambda: bit_cases(trial, by_adversary=True),
        "lengths": lambda: length_cases(trial),
        "messages": lambda: message_cases(trial, strangers_of(parameters)),
    }
    return [case for family in families for case in made[family]()]


def run_case(parameters: ProtocolParameters, case: Case) -> tuple[str, str, list[str]]:
    """Ending under the attack, ending after the second attempt, problems."""
    trial = Trial(new_parties(parameters))
    trial.converse(case.attack)
    first = trial.judge()
    trial.again()
    last = trial.judge()
    alice = trial.parties[ALICE]
    refused = alice.over is not None and getattr(alice.over, "wrong_tag", None) is MessageType.DECISION
    if case.family == "accidents" and last != "same key":
        trial.problems.append("a damaged frame costs the session")
    if last == "only Bob has a key":
        if refused:
            last = "changed decision refused"
        else:
            trial.problems.append("only Bob has a key, and a restart does not settle it")
    return first, last, trial.problems


def campaign(families: list[str], every: int = 1, progress: bool = False) -> dict[str, object]:
    """Run every `every`-th case; what is printed."""
    parameters = small_session()
    started = time.process_time()
    cases = all_cases(parameters, families)[::every]
    counts: dict[str, Counter[str]] = {family: Counter() for family in families}
    failures: list[str] = []
    for case in track(cases, "attacks", disable=not progress, console=Console(stderr=True)):
        first, last, problems = run_case(parameters, case)
        counts[case.family][f"{first}; started again: {last}"] += 1
        failures += [f"{case.name}: {problem}" for problem in problems]
    return {
        "cases": len(cases),
        "endings": {family: dict(counter) for family, counter in counts.items()},
        "failures": failures,
        "cpu_seconds": round(time.process_time() - started, 1),
    }


def main() -> int:
    """Print the report; exit code 1 if a case failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", choices=[*FAMILIES, []], default=[])
    parser.add_argument("--every", type=int, default=1, help="run every n-th case only")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    families = arguments.families or FAMILIES
    report = campaign(families, arguments.every, progress=sys.stderr.isatty())
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        table = Table(title=f"{report['cases']:,} attacks, {len(report['failures'])} failures")
        for heading in ("family", "ending under attack; started again on a quiet line", "cases"):
            table.add_column(heading, justify="right" if heading == "cases" else "left")
        for family, endings in report["endings"].items():
            for ending, count in sorted(endings.items()):
                table.add_row(family, ending, f"{count:,}")
        Console().print(table)
        for failure in report["failures"]:
            print(failure)
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
