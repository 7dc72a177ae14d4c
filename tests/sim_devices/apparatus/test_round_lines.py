"""Edges between two apparatuses: times, gates, and how a node learns that no edge comes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from artiq.coredevice.exceptions import RTIOOverflow

from sim_devices.apparatus import round_lines
from sim_devices.apparatus.round_lines import CABLE_MU
from sim_devices.laboratory import LaboratoryConfiguration, LinkModel
from tests.support.player import Player

StartLaboratory = Callable[[LaboratoryConfiguration], str]
US = 1_000
TOKEN, TYPE = "ttl_token", "ttl_round_type"


@pytest.fixture
def pair(laboratory: StartLaboratory) -> Iterator["Pair"]:
    address = laboratory(LaboratoryConfiguration(seed=3, link=LinkModel(success_probability=1.0)))
    made = Pair(Player("alice", address), Player("bob", address, now=7_654_321))
    yield made
    for player in (made.alice, made.bob):
        player.close()
    made.threads.shutdown(cancel_futures=True)


class Pair:
    """Both nodes; `herald` brings them to the isolated state of the next round."""

    def __init__(self, alice: Player, bob: Player) -> None:
        self.alice, self.bob = alice, bob
        self.threads = ThreadPoolExecutor()
        self.heralds = {"alice": 0, "bob": 0}

    def herald(self) -> None:
        for future in [self.threads.submit(self._isolate, player) for player in (self.alice, self.bob)]:
            future.result(60)

    def _isolate(self, player: Player) -> None:
        player.move(0.0)
        assert player.synchronise()
        self.heralds[player.role], _ = player.search()
        player.now = self.heralds[player.role] + 40 * US
        player.move(1.0)
        player.now += 30 * US

    def send(self, sender: Player, line: str, after_herald_mu: int, bit: int = 1) -> None:
        sender.now = self.heralds[sender.role] + after_herald_mu
        sender.send(line, bit)

    def edge(self, receiver: Player, line: str, start: int, stop: int) -> tuple[int, int]:
        """(time after the herald, level) of the first edge in a gate, or (-1, 0)."""
        herald = self.heralds[receiver.role]
        edge = receiver.edge[line](herald + start, herald + stop)
        return (edge - herald, receiver.line_level[line](edge + 10)) if edge >= 0 else (-1, 0)


class Clock:
    """In place of `time`; every look at it takes `step_s`."""

    def __init__(self, step_s: float) -> None:
        self.now_s = 0.0
        self._step_s = step_s

    def monotonic(self) -> float:
        self.now_s += self._step_s
        return self.now_s


def test_an_edge_comes_a_cable_later_after_each_nodes_own_herald(pair: Pair) -> None:
    pair.herald()
    assert pair.heralds["alice"] != pair.heralds["bob"]
    pair.send(pair.alice, TOKEN, 80 * US, 1)
    assert pair.edge(pair.bob, TOKEN, 75 * US, 275 * US) == (80 * US + CABLE_MU, 1)
    pair.send(pair.bob, TYPE, 107 * US, 0)
    assert pair.edge(pair.alice, TYPE, 80 * US, 130 * US) == (107 * US + CABLE_MU, 0)


def test_several_strobes_are_several_edges_in_order(pair: Pair) -> None:
    pair.herald()
    for number, bit in enumerate((1, 0, 0)):
        pair.send(pair.alice, TOKEN, (80 + 10 * number) * US, bit)
    start = 75 * US
    for number, bit in enumerate((1, 0, 0)):
        time_mu, level = pair.edge(pair.bob, TOKEN, start, 275 * US)
        assert (time_mu, level) == ((80 + 10 * number) * US + CABLE_MU, bit)
        start = time_mu + 1


def test_an_edge_before_the_gate_is_dropped(pair: Pair) -> None:
    pair.herald()
    pair.send(pair.alice, TOKEN, 71 * US, 0)
    pair.send(pair.alice, TOKEN, 85 * US, 1)
    assert pair.edge(pair.bob, TOKEN, 75 * US, 275 * US) == (85 * US + CABLE_MU, 1)


def test_an_edge_after_the_gate_is_not_seen(pair: Pair) -> None:
    pair.herald()
    pair.send(pair.alice, TOKEN, 300 * US)
    assert pair.edge(pair.bob, TOKEN, 75 * US, 275 * US) == (-1, 0)


@pytest.mark.parametrize("alice_until", [130, 500])
def test_when_both_wait_the_shorter_gate_ends(
    pair: Pair, alice_until: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token was too early for Bob's gate; neither node can go on before one gives up."""
    pair.herald()
    monkeypatch.setattr(round_lines, "time", Clock(step_s=0.0))  # nobody gives up for the time that passes
    pair.send(pair.alice, TOKEN, 71 * US)
    waiting = pair.threads.submit(pair.edge, pair.alice, TYPE, 80 * US, alice_until * US)
    token = pair.threads.submit(pair.edge, pair.bob, TOKEN, 75 * US, 275 * US)
    if alice_until < 275:
        assert waiting.result(60) == (-1, 0)
        pair.alice.apparatus.lines.partner.drop()
    assert token.result(60) == (-1, 0)
    if alice_until > 275:
        pair.send(pair.bob, TYPE, 290 * US)
        assert waiting.result(60) == (290 * US + CABLE_MU, 1)


def test_a_partner_that_hangs_in_a_round_is_given_ten_seconds(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.herald()
    clock = Clock(step_s=0.5)
    monkeypatch.setattr(round_lines, "time", clock)
    assert pair.edge(pair.bob, TOKEN, 75 * US, 275 * US) == (-1, 0)
    assert 10.0 < clock.now_s - 0.5 < 11.5


def test_a_node_in_its_next_handshake_sends_no_more(pair: Pair) -> None:
    pair.herald()
    waiting = pair.threads.submit(pair.edge, pair.bob, TOKEN, 75 * US, 275 * US)
    pair.alice.move(0.0)
    synchronising = pair.threads.submit(pair.alice.synchronise)
    assert waiting.result(60) == (-1, 0)
    pair.bob.move(0.0)
    assert pair.bob.synchronise() and synchronising.result(60)


def test_the_end_of_the_connection_ends_the_wait(pair: Pair) -> None:
    pair.herald()
    waiting = pair.threads.submit(pair.edge, pair.bob, TOKEN, 75 * US, 275 * US)
    pair.alice.apparatus.lines.partner.drop()
    assert waiting.result(60) == (-1, 0)


@pytest.mark.parametrize(("num_edges", "overflows"), [(65, False), (66, True), (100_000, True)])
def test_edges_that_nobody_reads_overflow_the_input(pair: Pair, num_edges: int, overflows: bool) -> None:
    """The first one is read when it comes; the others wait until the input is read again."""
    pair.herald()
    edges = pair.bob.apparatus.lines._inputs[0].edges
    herald = pair.heralds["bob"]
    edges.extend((herald + 80 * US + number, 1) for number in range(num_edges))
    assert pair.edge(pair.bob, TOKEN, 75 * US, 275 * US)[0] == 80 * US
    if overflows:
        with pytest.raises(RTIOOverflow):
            pair.edge(pair.bob, TOKEN, 80 * US + 1, 275 * US)
        pair.send(pair.alice, TOKEN, 180 * US)
        assert pair.edge(pair.bob, TOKEN, 175 * US, 275 * US)[0] == 180 * US + CABLE_MU
    else:
        assert pair.edge(pair.bob, TOKEN, 80 * US + 1, 275 * US)[0] == 80 * US + 1
