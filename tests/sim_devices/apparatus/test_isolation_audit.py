"""Leaky sequences fail the run; the published one passes."""

import threading
from collections.abc import Callable, Iterator

import pytest

from sim_devices.apparatus.isolation_audit import IsolationViolation
from sim_devices.laboratory import LaboratoryConfiguration, LinkModel
from tests.support.player import QUBIT, Player

StartLaboratory = Callable[[LaboratoryConfiguration], str]


@pytest.fixture
def nodes(laboratory: StartLaboratory) -> Iterator[dict[str, Player]]:
    address = laboratory(LaboratoryConfiguration(seed=3, link=LinkModel(success_probability=1.0)))
    players = {role: Player(role, address) for role in ("alice", "bob")}
    yield players
    for player in players.values():
        player.close()


@pytest.fixture
def bob(nodes: dict[str, Player]) -> Iterator[Player]:
    """Bob, with an Alice that keeps playing."""
    ended = threading.Event()

    def play() -> None:
        while not ended.is_set():
            nodes["alice"].play(0)

    playing = threading.Thread(target=play, daemon=True)
    playing.start()
    yield nodes["bob"]
    ended.set()
    nodes["bob"].apparatus.lines.partner.close()
    playing.join(300.0)


@pytest.mark.parametrize("setting", [0, 1, 2])
def test_published_sequence_passes(bob: Player, setting: int) -> None:
    assert bob.play(setting) and bob.play(setting)
    assert bob.apparatus.audit.num_checks >= 8


def test_round_type_before_the_electrodes_have_settled(bob: Player) -> None:
    bob.receive = lambda line: 0  # type: ignore[method-assign]
    bob.settling_mu = 29_990
    with pytest.raises(IsolationViolation, match="on ttl_round_type was sent 29990 ns"):
        bob.play(2)


def test_token_before_the_electrodes_have_settled(nodes: dict[str, Player]) -> None:
    alice, bob = nodes["alice"], nodes["bob"]
    alice.settling_mu = 20_000
    playing = threading.Thread(target=bob.synchronise, daemon=True)
    playing.start()
    with pytest.raises(IsolationViolation, match="token changed 25000 ns"):
        alice.play(0)
    playing.join(300.0)


def test_short_scrambling(bob: Player) -> None:
    bob.scrambling_mu = 99_000
    with pytest.raises(IsolationViolation, match="99000 ns of scrambling"):
        bob.play(1)


def test_no_shuttling_at_all(bob: Player) -> None:
    bob.move = lambda volts: None  # type: ignore[method-assign]
    with pytest.raises(IsolationViolation, match="in reach of the link"):
        bob.play(0)


def test_electrodes_only_partly_out(bob: Player) -> None:
    bob.move = lambda volts: bob.set_dac(bob.now, 15, volts)  # type: ignore[method-assign]
    with pytest.raises(IsolationViolation, match="in reach of the link"):
        bob.play(0)


def test_analysis_pulse_in_the_focus(bob: Player) -> None:
    assert bob.synchronise()
    herald, _ = bob.search()
    with pytest.raises(IsolationViolation, match="analysis pulse"):
        bob.pulse_674(QUBIT, 1_250, 0.0, herald)


def test_counted_readout_in_the_focus(bob: Player) -> None:
    """A key round without shelving has no basis-dependent pulse: the readout itself gives it away."""
    assert bob.synchronise()
    bob.search()
    start = bob.now
    bob.pulse(250_000, "ttl_422_cool", "ttl_1092")
    with pytest.raises(IsolationViolation, match="readout"):
        bob.counts(start, bob.now)


def test_cooling_after_an_abandoned_herald_is_no_leak(bob: Player) -> None:
    assert bob.synchronise()
    bob.search()
    bob.pulse(300_000, "ttl_422_cool", "ttl_1092")
    assert bob.play(2)


def test_a_violation_is_final(bob: Player) -> None:
    bob.scrambling_mu = 0
    for _ in range(2):
        with pytest.raises(IsolationViolation):
            bob.play(2)
