"""Both kernels against each other through the lines, in both protocols."""

from collections.abc import Callable

import numpy as np
import pytest

from diqkd_node.sequence.conditions import RUNNING
from sim_devices.laboratory import LaboratoryConfiguration, LinkModel
from tests.support.kernel_nodes import KEY, TEST, KernelNode, PlayedRound, random_draws, run_together
from tests.support.two_nodes import laboratory

PROTOCOLS = ("ordered", "late-type")
ROLES = ("alice", "bob")
AT_ONCE = LinkModel(success_probability=1.0)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[PlayedRound], list[PlayedRound]]]:
    """Rounds of Alice and Bob, each with `num_rounds` draws."""

    def both(
        protocol: str, num_rounds: int, seed: int = 5, gamma: float = 0.5, **settings: object
    ) -> tuple[list[PlayedRound], list[PlayedRound]]:
        with laboratory(LaboratoryConfiguration(seed=3, protocol=protocol, link=AT_ONCE)) as address:
            monkeypatch.setenv("DIQKD_LABORATORY", address)
            nodes = [
                KernelNode(role, random_draws(role, num_rounds, seed, gamma), protocol=protocol, **settings)
                for role in ROLES
            ]
            run_together(*nodes)
        assert [node.notes.ends for node in nodes] == [[(num_rounds, RUNNING)]] * 2
        return nodes[0].rounds, nodes[1].rounds

    return both


def round_type(bob: PlayedRound) -> int:
    return KEY if bob.setting == 2 else TEST


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_sent_is_received(play: Callable[..., tuple[list, list]], protocol: str) -> None:
    for alice, bob in zip(*play(protocol, 200, end_token=True), strict=True):
        assert bob.received == alice.token
        assert alice.received == round_type(bob)
        assert alice.received_end == bob.token
        assert alice.pattern_index == bob.pattern_index
        assert min(alice.outcome, bob.outcome) >= 0
        if protocol == "late-type" and round_type(bob) == KEY:
            assert bob.received_setting == alice.setting


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_edges_come_at_one_time_whatever_the_bits(
    play: Callable[..., tuple[list, list]], protocol: str
) -> None:
    for rounds in play(protocol, 100):
        assert len({played.t_edge - played.t_herald for played in rounds}) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_outcomes_win_tests_and_agree_in_key_rounds(
    play: Callable[..., tuple[list, list]], protocol: str
) -> None:
    """S = 2.677, Q at most 3.7 % in either basis: six standard errors of 3000 rounds, 2e-9."""
    alice, bob = play(protocol, 3000)
    pairs = list(zip(alice, bob, strict=True))
    won = [a.outcome ^ b.outcome == a.setting & b.setting for a, b in pairs if round_type(b) == TEST]
    assert 8 * np.mean(won) - 4 == pytest.approx(2.69, abs=8 * 6 * 0.373 / np.sqrt(len(won)))
    for x in (0, 1):
        differ = [a.outcome != b.outcome for a, b in pairs if round_type(b) == KEY and a.setting == x]
        assert np.mean(differ) < 0.037 + 6 * np.sqrt(0.037 / len(differ))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_runs_repeat_to_the_bit(play: Callable[..., tuple[list, list]], protocol: str) -> None:
    assert play(protocol, 300) == play(protocol, 300)


@pytest.mark.artiq
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_host_and_compiled_engine_agree(
    play: Callable[..., tuple[list, list]], protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both roles' bits and times after the herald, over more than one chunk of the tape."""
    pytest.importorskip("entangler.driver")
    host = play(protocol, 140, end_token=True)
    compiled = play(protocol, 140, end_token=True, database="compiled")
    for ours, theirs in zip(host, compiled, strict=True):
        for played, other in zip(ours, theirs, strict=True):
            assert played.t_edge - played.t_herald == other.t_edge - other.t_herald
            for name in ("outcome", "received", "received_setting", "received_end", "pattern_index"):
                assert getattr(played, name) == getattr(other, name)
