"""The attacks of `diqkd demo --attack`: what the adversary does, what notices it, and how the run ends.

Those on the lines between the nodes are played by `sim_devices.apparatus.line_tampering`. Four of them have
an entry of their own; the others go by their names there, and their end depends on the protocol and on the
share of attacked rounds."""

from __future__ import annotations

from dataclasses import dataclass

from diqkd_postproc.protocol.errors import AuthenticationError, ProtocolAbort
from sim_devices.apparatus.line_tampering import LINE_ATTACKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """`what` and `why`: a sentence each, for people. exit_code: of the demonstration, where the attack
    fails; None where it depends. line_attack: the name of what is done to the lines between the nodes, or ''.
    lost_tests: share of the attacked tests that theory says are lost by order; None where it says nothing."""

    name: str
    what: str
    why: str
    exit_code: int | None
    line_attack: str = ""
    lost_tests: float | None = None


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
    Attack(
        name="skew",
        what="Eve's station heralds Bob first, and she sends him a random token. He announces T while "
        "Alice's device can still be told: both devices answer key rounds from Eve's list, and tests with "
        "their ions.",
        why="Bob announces T only for a token, which Alice releases once she is isolated. Eve's own is wrong "
        "in half of the tests, and a test with a wrong token is lost, whatever its outcomes. S alone would "
        "show nothing.",
        exit_code=ProtocolAbort.exit_code,
        line_attack="skew-random",
        lost_tests=0.5,
    ),
    Attack(
        name="strobe-delay",
        what="Eve delays the strobe of the round type if it announces a key round. Alice's device is to tell "
        "the type by the time of its own pulse, and to answer from Eve's list in key rounds, as Bob's does.",
        why="Alice's pulse stands at a fixed time after her token, or before any type exists: her device "
        "learns nothing, answers with its ion, and agrees with Bob's list by chance only. Error correction "
        "fails.",
        exit_code=ProtocolAbort.exit_code,
        line_attack="strobe-delay",
        lost_tests=0.0,
    ),
    Attack(
        name="early-type",
        what="Eve announces a key round to Alice before Bob has announced the type. Both devices answer "
        "every round from Eve's list, and Alice's has given up its isolation before Bob's measures.",
        why="The type that Alice got is in both records. Where Bob announced a test and she got a key round, "
        "the test is lost, whatever its outcomes; with the protocol `ordered` it also costs a bit of key.",
        exit_code=ProtocolAbort.exit_code,
        line_attack="early-type",
        lost_tests=1.0,
    ),
    Attack(
        name="forged-token",
        what="Eve keeps Alice's tokens from Bob and sends him random ones; the devices are honest.",
        why="Half of the forged tokens are wrong, and a test with a wrong token is lost: without her token "
        "Bob cannot know that Alice is isolated, even if nobody has made use of it.",
        exit_code=ProtocolAbort.exit_code,
        line_attack="forge-token",
        lost_tests=0.5,
    ),
)
_LOUD = {attack.name: attack for attack in _ALL}
_OTHERS = (
    Attack(
        name=name,
        what=f"Lines between the nodes: {what}.",
        why="What came on the lines is in the records of both nodes, and under every tag.",
        exit_code=None,
        line_attack=name,
    )
    for name, what in LINE_ATTACKS.items()
    if name not in {attack.line_attack for attack in _ALL}
)
ATTACKS = _LOUD | {attack.name: attack for attack in _OTHERS}
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
    "bound": "simple",  # its limit of lost tests is a number, which theory gives a probability
    "extractor": "toeplitz",
}
"""The smallest convenient run that would make a key if nobody attacked, at soundness error 1e-10: nearly five
thousand bits, within seconds."""
