"""Heralds at one node only and the shift of indices that follows (docs/order.md, section 9).

An adversary who keeps tokens from Bob has heralded Alice alone as far as both nodes can tell. Each such
herald costs an index of hers and none of his. Where she also forges the counts that the nodes compare after a
batch, all later rounds are shifted: Alice's index is played with another one of Bob's.
"""

from collections.abc import Callable

import numpy as np
import pytest

from diqkd_node.sequence.conditions import RUNNING, TYPE_MISSING
from diqkd_node.sequence.signal_line import NONE
from sim_devices.apparatus.line_tampering import Eve, LineTampering
from sim_devices.laboratory import LaboratoryConfiguration, LinkModel
from sim_devices.laboratory.tampering import Tampering
from tests.support.kernel_nodes import TEST, KernelNode, PlayedRound, random_draws, run_together
from tests.support.two_nodes import laboratory

PROTOCOLS = ("ordered", "late-type")
NUM_ROUNDS = 300
FIRST = 10  # entry of the tape with which the attack begins
Play = Callable[..., tuple[list[PlayedRound], list[PlayedRound], list[tuple[int, int]]]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Rounds of Alice and Bob, and the ends of her batches, under an attack in some heralds. Alice goes on
    with her next index after a batch, as her coordinator does; Bob's counts are never levelled."""

    def play(
        protocol: str, name: str, attacked: range
    ) -> tuple[list[PlayedRound], list[PlayedRound], list[tuple[int, int]]]:
        monkeypatch.setattr(Eve, "attacks", lambda self, index: index in attacked)
        configuration = LaboratoryConfiguration(
            seed=3,
            protocol=protocol,
            link=LinkModel(success_probability=1.0),
            tampering=Tampering(lines=LineTampering(name)),
        )
        draws = random_draws("alice", NUM_ROUNDS, 5)
        with laboratory(configuration) as address:
            monkeypatch.setenv("DIQKD_LABORATORY", address)
            nodes = [
                KernelNode("alice", protocol=protocol),
                KernelNode("bob", random_draws("bob", NUM_ROUNDS, 5, 0.5), protocol=protocol),
            ]
            notes = nodes[0].notes

            def begin_batch() -> list[int]:
                notes.batch = draws[len(notes.draws) :]
                return notes.batch

            notes.begin_batch = begin_batch  # type: ignore[method-assign]
            nodes[1].notes.on_check = lambda done, condition: (
                done if len(notes.rounds) == NUM_ROUNDS else None
            )
            run_together(*nodes)
        return nodes[0].rounds, nodes[1].rounds, notes.ends

    return play


def lost_by_order(alice: list[PlayedRound], bob: list[PlayedRound]) -> list[bool]:
    """Of the tests of rounds that are compared index by index: a wrong type or a wrong token."""
    tests = [(a, b) for a, b in zip(alice, bob, strict=False) if b.setting != 2]
    return [a.received != TEST or b.received != a.token for a, b in tests]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("number", [1, 2, 100])
def test_heralds_at_alice_only_cost_an_index_each_and_none_of_bobs(
    play: Play, protocol: str, number: int
) -> None:
    """Bob has used no draw for them: his next one goes with her next one, and later rounds are in order."""
    alice, bob, ends = play(protocol, "drop-token", range(FIRST, FIRST + number))
    assert len(alice) == NUM_ROUNDS and len(bob) == NUM_ROUNDS - number
    missing = [index for index, played in enumerate(alice) if played.received == NONE]
    assert missing == list(range(FIRST, FIRST + number))
    assert [condition for _, condition in ends] == [TYPE_MISSING] * number + [RUNNING]
    # In `late-type` her outcome was read out before; in `ordered` she has not measured.
    assert all((alice[index].outcome >= 0) == (protocol == "late-type") for index in missing)
    rest = [played for index, played in enumerate(alice) if index not in missing]
    assert not any(lost_by_order(rest, bob))
    assert [played.token for played in rest] == [played.received for played in bob]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_alice_one_index_ahead_loses_most_tests(play: Play, protocol: str) -> None:
    """T' of a test is the type of Bob's round before, r' the token of Alice's next one: three of four tests
    are lost at gamma = 1/2, and none where the shift is known. Bob ahead, with T' of the right index, is
    `skew-previous`."""
    alice, bob, _ = play(protocol, "drop-token", range(FIRST, FIRST + 1))
    lost = lost_by_order(alice[FIRST:], bob[FIRST:])
    assert abs(np.mean(lost) - 0.75) < 6 * np.sqrt(0.75 * 0.25 / len(lost))  # 2e-9
    assert not any(lost_by_order(alice[FIRST + 1 :], bob[FIRST:]))
