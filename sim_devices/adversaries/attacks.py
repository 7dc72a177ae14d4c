"""The attacks of `diqkd demo --attack`: what the adversary does, what notices it, and how the run ends."""

from __future__ import annotations

from dataclasses import dataclass

from diqkd_postproc.protocol.errors import AuthenticationError, ProtocolAbort


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """`what` and `why`: a sentence each, for people. exit_code: of the demonstration, where the attack
    fails."""

    name: str
    what: str
    why: str
    exit_code: int


_ALL = (
    Attack(
        name="local-devices",
        what="Both devices answer every round from a list that Eve has, whatever they are asked.",
        why="Answers that do not depend on the other side's setting win at most 3 of 4 test rounds: S is "
        "at most 2. That the key rounds agree perfectly makes no impression on the test.",
        exit_code=ProtocolAbort.exit_code,
    ),
    Attack(
        name="intercept",
        what="Eve's station measures the photons and then announces a herald: it leaves ions in states "
        "that she knows.",
        why="Her measurement breaks the entanglement. Key rounds agree as before, but a product state "
        "gives at most S = sqrt 2 in these measurements, and at most 2 in any.",
        exit_code=ProtocolAbort.exit_code,
    ),
    Attack(
        name="mixture",
        what="In a share of the rounds, chosen at random, both devices answer from Eve's list; the "
        "others are honest.",
        why="Every listed round takes from S. A share small enough to pass is within what the key length "
        "pays for: it is computed for all devices that lose no more tests than are accepted.",
        exit_code=ProtocolAbort.exit_code,
    ),
    Attack(
        name="leaky-link",
        what="One of the four electrodes at Bob's trap was disconnected: his ion stays in reach of the "
        "fibre.",
        why="The isolation audit follows the electrodes and finds the link up before anything private "
        "happens. No statistics would show it: isolation is an assumption of the proof, so it has to "
        "be watched.",
        exit_code=AuthenticationError.exit_code,
    ),
    Attack(
        name="network",
        what="Eve sits on the line between the two PCs and changes one bit of the settings that Alice "
        "reveals.",
        why="Alice's tag covers every bit that she sent, under a pad that nobody else has.",
        exit_code=AuthenticationError.exit_code,
    ),
    Attack(
        name="impersonation",
        what="Eve answers in Bob's place. She has his record and knows all that is public, even the name "
        "of the initial key, but not the initial key.",
        why="Without the pads of the initial key her first tag is a guess.",
        exit_code=AuthenticationError.exit_code,
    ),
)
ATTACKS = {attack.name: attack for attack in _ALL}
"""By name, in the order in which they are listed."""

BELL_ATTACKS = ("local-devices", "intercept", "mixture")
"""Those that the Bell test has to find; the other ones have nothing to do with S."""

DEFAULT_DESIGN = {
    "rounds": 60_000,
    "gamma": "1/8",
    "chsh_score": 2.815,
    "qber": 0.0015,
    "link": "ideal",
    "herald_probability": 0.02,
    "proof": "renyi",
    "extractor": "toeplitz",
}
"""The smallest convenient run that would make a key if nobody attacked, at soundness error 1e-10: nearly five
thousand bits, within seconds."""
