"""Attacks on lines and station (docs/order.md, section 9), each with the control that shows that it bites.

The controls are nodes with the rule of before: a Bob who announces T without a token, an Alice whose basis
pulse follows the strobe. They play tests that an honest pair would play, while the adversary knows the key.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from artiq.experiment import TBool, TInt32, TInt64, at_mu, delay_mu, kernel

from diqkd_node.sequence.conditions import RUNNING, TYPE_MISSING
from diqkd_node.sequence.rounds import AliceOrdered, BobOrdered
from diqkd_node.sequence.signal_line import NONE
from sim_devices.apparatus.isolation_audit import CONNECTED, TOOK_TYPE, IsolationViolation, check_order
from sim_devices.apparatus.line_tampering import LINE_ATTACKS, LineTampering
from sim_devices.laboratory import LaboratoryConfiguration, LinkModel
from sim_devices.laboratory.tampering import Tampering
from sim_devices.laboratory.tape import Tape
from tests.support.kernel_nodes import KEY, TEST, KernelNode, PlayedRound, random_draws, run_together
from tests.support.two_nodes import laboratory

PROTOCOLS = ("ordered", "late-type")
NUM_ROUNDS = 400
WIDE = {"type_window": 150e-6, "basis_delay": 200e-6}


class AliceFollowsTheStrobe(AliceOrdered):
    """Of before: the basis pulse comes a fixed time after the edge of the strobe."""

    @kernel
    def play(self, t_herald: TInt64, pattern_index: TInt32, setting: TInt32, token: TInt32):
        self.analysis.map_qubit(t_herald)
        self.isolation.disconnect()
        delay_mu(self.lead_mu)
        self.used = True
        t_token = self.token_line.send(token)
        at_mu(t_token)
        self.round_type_line.receive(self.type_window_mu)
        self.received = self.round_type_line.bit
        self.t_edge = self.round_type_line.t_edge
        self.measure(t_herald, setting * self.received, 0)
        self.reconnect()
        self.fetch()


class BobNeedsNoToken(BobOrdered):
    """Of before: T is announced a fixed time after the isolation."""

    @kernel
    def isolate_and_take_token(self, t_herald: TInt64) -> TBool:
        self.analysis.map_qubit(t_herald)
        self.isolation.disconnect()
        delay_mu(self.lead_mu)
        self.received = 0
        return True


@dataclass
class Outcome:
    """Rounds of an attacked run, and the adversary's list."""

    alice: list[PlayedRound]
    bob: list[PlayedRound]
    noted: Sequence[int]
    ends: list[list[tuple[int, int]]]
    events: list[list[tuple[int, str]]]
    protocol: str

    def is_won(self, alice: PlayedRound, bob: PlayedRound) -> bool:
        """Of a test. In `ordered` x is applied only where T' = 1 came."""
        setting = alice.setting * (alice.received == TEST or self.protocol == "late-type")
        return alice.outcome ^ bob.outcome == setting & bob.setting

    def of_type(self, round_type: int) -> list[tuple[PlayedRound, PlayedRound, int]]:
        """(Alice's, Bob's, noted) of the rounds of a type."""
        rounds = zip(self.alice, self.bob, self.noted, strict=False)
        return [row for row in rounds if (row[1].setting == 2) == (round_type == KEY)]

    def lost_by_order(self) -> float:
        """Share of the tests with a wrong token or type (section 2.3)."""
        tests = self.of_type(TEST)
        return float(np.mean([a.received != TEST or b.received != a.token for a, b, _ in tests]))

    def won(self) -> float:
        """Share of the tests that are won, whatever the tokens."""
        return float(np.mean([self.is_won(a, b) for a, b, _ in self.of_type(TEST)]))

    def known(self) -> float:
        """Share of Alice's key outcomes that the adversary's list has."""
        return float(np.mean([a.outcome == noted for a, _, noted in self.of_type(KEY)]))

    def accepted(self, *, by_outcomes_alone: bool = False) -> bool:
        """Whether an honest pair would go on to a key: no late loss in `ordered`, fewer losses than any list
        has (a quarter of the tests, here within 200 of them), and key rounds that can be corrected."""
        rows = self.of_type(TEST)
        lost = [a.outcome < 0 or b.outcome < 0 or not self.is_won(a, b) for a, b, _ in rows]
        if not by_outcomes_alone:
            by_order = [a.received != TEST or b.received != a.token for a, b, _ in rows]
            lost = [outcome or order for outcome, order in zip(lost, by_order, strict=True)]
            lost += [a.received == TEST for a, _, _ in self.of_type(KEY)]
        return sum(lost) < 0.22 * len(rows) and self.agreeing() > 0.94

    def agreeing(self) -> float:
        """Share of the key rounds in which the nodes agree."""
        return float(np.mean([a.outcome == b.outcome for a, b, _ in self.of_type(KEY)]))


@pytest.fixture
def attack(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Plays rounds of both kernels under an attack; Alice may have several batches."""

    def play(
        protocol: str,
        name: str,
        num_rounds: int = NUM_ROUNDS,
        *,
        num_batches: int = 1,
        alice: type | None = None,
        bob: type | None = None,
        gamma: float = 0.5,
        delay_us: float = 60.0,
        **settings: object,
    ) -> Outcome:
        configuration = LaboratoryConfiguration(
            seed=3,
            protocol=protocol,
            link=LinkModel(success_probability=1.0),
            tampering=Tampering(lines=LineTampering(name, delay_us=delay_us)),
        )
        with laboratory(configuration) as address:
            monkeypatch.setenv("DIQKD_LABORATORY", address)
            alices = random_draws("alice", num_rounds, 5)
            batches = np.array_split(np.array(alices), num_batches)
            nodes = [
                KernelNode(
                    "alice", *(b.tolist() for b in batches), protocol=protocol, round_class=alice, **settings
                ),
                KernelNode(
                    "bob",
                    random_draws("bob", num_rounds, 5, gamma),
                    protocol=protocol,
                    round_class=bob,
                    **settings,
                ),
            ]
            for node in nodes:
                node.apparatus.audit.events = []
            if num_batches > 1:  # Bob is left alone in the end
                nodes[1].notes.on_check = lambda done, condition: (
                    done if len(nodes[0].notes.ends) == num_batches else None
                )
            run_together(*nodes)
        noted = Tape(configuration).notebook(0, num_rounds)[1].tolist()
        ends = [node.notes.ends for node in nodes]
        events = [node.apparatus.audit.events for node in nodes]
        return Outcome(nodes[0].rounds, nodes[1].rounds, noted, ends, events, protocol)

    return play


def likely(share: float, expected: float, count: int) -> bool:
    """Within six standard errors of a binomial (2e-9)."""
    return abs(share - expected) < 6 * np.sqrt(max(expected * (1 - expected), 1 / count) / count)


# Bob first.


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("token", ["random", "constant", "previous"])
def test_skew_loses_half_of_the_tests_by_order(
    attack: Callable[..., Outcome], protocol: str, token: str
) -> None:
    """The adversary knows every key outcome of Alice's, and S is that of the link: only the tokens show
    it."""
    run = attack(protocol, f"skew-{token}")
    assert run.ends == [[(NUM_ROUNDS, RUNNING)]] * 2
    assert likely(run.lost_by_order(), 0.5, len(run.of_type(TEST)))
    assert run.known() > 0.98 and run.agreeing() > 0.97
    assert likely(run.won(), 0.836, len(run.of_type(TEST)))


def test_skew_is_accepted_by_a_bob_who_needs_no_token(attack: Callable[..., Outcome]) -> None:
    run = attack("ordered", "skew-random", bob=BobNeedsNoToken)
    assert all(
        a.received == (TEST if b.setting != 2 else KEY) for a, b in zip(run.alice, run.bob, strict=True)
    )
    assert run.known() > 0.98 and run.agreeing() > 0.97
    assert likely(run.won(), 0.836, len(run.of_type(TEST)))


# Both nodes on one clock.


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("end_token", [True, False])
def test_both_are_isolated_when_a_type_is_announced(
    attack: Callable[..., Outcome], protocol: str, end_token: bool
) -> None:
    run = attack(protocol, "", 50, end_token=end_token)
    assert check_order(*run.events) == 50


@pytest.mark.parametrize("bob", [None, BobNeedsNoToken])
def test_a_bob_who_is_heralded_first_announces_to_a_connected_alice(
    attack: Callable[..., Outcome], bob: type | None
) -> None:
    """What the tokens are for: the adversary gets no other way round them."""
    run = attack("ordered", "skew-random", 20, bob=bob)
    with pytest.raises(IsolationViolation, match="while Alice was not isolated"):
        check_order(*run.events, bobs_lead_mu=1_000_000)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_reconnection_before_the_type_is_noticed(attack: Callable[..., Outcome], protocol: str) -> None:
    alice, bob = attack(protocol, "", 5).events
    early = list(alice)
    for time, what in alice:
        if what == TOOK_TYPE:
            early.insert(early.index((time, what)), (time - 1, CONNECTED))
    with pytest.raises(IsolationViolation, match="until she had measured and had T"):
        check_order(early, bob)


# The time of the strobe.


def test_a_delayed_strobe_gains_nothing(attack: Callable[..., Outcome]) -> None:
    """Alice's pulse has one time for both types: her device cannot tell, and key rounds do not agree."""
    run = attack("ordered", "strobe-delay", lines=WIDE)
    edges = {played.t_edge - played.t_herald for played in run.alice}
    assert max(edges) - min(edges) == 60_000
    assert run.lost_by_order() == 0
    count = len(run.of_type(KEY))
    assert likely(run.known(), 0.5, count) and likely(run.agreeing(), 0.5, count)
    assert likely(run.won(), 0.836, len(run.of_type(TEST)))


def test_a_delayed_strobe_is_accepted_by_an_alice_who_follows_it(attack: Callable[..., Outcome]) -> None:
    run = attack("ordered", "strobe-delay", alice=AliceFollowsTheStrobe, lines=WIDE)
    assert run.lost_by_order() == 0
    assert run.known() > 0.98 and run.agreeing() > 0.97
    assert likely(run.won(), 0.836, len(run.of_type(TEST)))


def test_a_strobe_beyond_the_window_is_none(attack: Callable[..., Outcome]) -> None:
    run = attack("ordered", "strobe-delay", 20, num_batches=20)
    for played, (_, condition) in zip(run.alice, run.ends[0], strict=True):
        assert (played.received == NONE) == (condition == TYPE_MISSING)
    assert {NONE, TEST} == {played.received for played in run.alice}


def test_a_delayed_strobe_changes_nothing_in_late_type(attack: Callable[..., Outcome]) -> None:
    honest = attack("late-type", "")
    run = attack("late-type", "strobe-delay", delay_us=15.0)
    assert [a.outcome for a in run.alice] == [a.outcome for a in honest.alice]
    assert run.lost_by_order() == 0


# Types and tokens of the adversary's.


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("name", "received"),
    [
        ("early-key", lambda sent: KEY),
        ("early-test", lambda sent: TEST),
        ("flip-type", lambda sent: 1 - sent),
        ("duplicate", lambda sent: sent),
        ("early-edge", lambda sent: sent),
    ],
)
def test_a_forged_type_is_in_the_columns(
    attack: Callable[..., Outcome], protocol: str, name: str, received: Callable[[int], int]
) -> None:
    """A wrong one costs its test, or its key round; the first one after the gate has opened counts."""
    honest, run = attack(protocol, "", 100), attack(protocol, name, 100)
    for round_type in (KEY, TEST):
        rows = run.of_type(round_type)
        assert {a.received for a, _, _ in rows} == {received(round_type)}
    if protocol == "late-type":
        assert [a.outcome for a in run.alice] == [a.outcome for a in honest.alice]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_forged_tokens_are_in_the_columns(attack: Callable[..., Outcome], protocol: str) -> None:
    assert attack(protocol, "flip-token", 60).lost_by_order() == 1
    assert likely(attack(protocol, "forge-token", 200).lost_by_order(), 0.5, 80)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["drop-type", "drop-key-type"])
def test_a_type_that_does_not_come(attack: Callable[..., Outcome], protocol: str, name: str) -> None:
    """Alice has used the index up, and leaves the batch; in `late-type` she keeps her outcome."""
    run = attack(protocol, name, 12, num_batches=12)
    assert len(run.alice) == 12
    for alice, bob in zip(run.alice, run.bob, strict=False):
        dropped = name == "drop-type" or bob.setting == 2
        assert (alice.received == NONE) == dropped
        assert (alice.outcome >= 0) == (protocol == "late-type" or not dropped)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_without_a_token_bob_plays_no_round(attack: Callable[..., Outcome], protocol: str) -> None:
    run = attack(protocol, "drop-token", 5, num_batches=5)
    assert [played.received for played in run.alice] == [NONE] * 5
    assert not run.bob


# The adversary's knowledge.


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "name",
    [name for name in LINE_ATTACKS if LineTampering(name).has_list or name in ("early-key", "early-test")],
)
def test_no_run_is_accepted_of_which_the_adversary_has_the_key(
    attack: Callable[..., Outcome], protocol: str, name: str
) -> None:
    """Who knows more than half of the key outcomes has lost the run by order; who has not knows nothing."""
    run = attack(protocol, name, 200, delay_us=15.0)
    assert not run.accepted()
    if name == "strobe-delay":
        assert likely(run.known(), 0.5, len(run.of_type(KEY))) and run.lost_by_order() == 0
    elif LineTampering(name).has_list:
        assert run.known() > 0.95 and run.lost_by_order() > 0.25


def test_honest_lines_are_accepted(attack: Callable[..., Outcome]) -> None:
    """The control of the verdict; the list that nobody uses agrees by chance."""
    for protocol in PROTOCOLS:
        run = attack(protocol, "", 400)
        assert run.accepted() and likely(run.known(), 0.5, len(run.of_type(KEY)))


def test_an_early_type_is_accepted_by_whoever_looks_at_outcomes_alone(attack: Callable[..., Outcome]) -> None:
    """Control: Alice's setting is 0 in every round, so that two lists win all tests, and key rounds agree."""
    run = attack("ordered", "early-type", 200)
    assert run.lost_by_order() == 1.0 and run.won() > 0.97 and run.known() > 0.97
    assert run.accepted(by_outcomes_alone=True) and not run.accepted()


# Alice's setting.


@pytest.mark.parametrize(
    ("name", "received"),
    [
        ("flip-setting", lambda sent: 1 - sent),
        ("early-setting", lambda sent: 0),
        ("drop-setting", lambda sent: NONE),
    ],
)
def test_a_wrong_setting_costs_agreement_only(
    attack: Callable[..., Outcome], name: str, received: Callable[[int], int]
) -> None:
    run = attack("late-type", name, 200)
    assert run.lost_by_order() == 0
    rows = run.of_type(KEY)
    assert all(b.received_setting == received(a.setting) for a, b, _ in rows)
    assert all(b.outcome >= 0 for _, b, _ in rows)
    right = [a.outcome == b.outcome for a, b, _ in rows if b.received_setting % 2 == a.setting]
    wrong = [a.outcome == b.outcome for a, b, _ in rows if b.received_setting % 2 != a.setting]
    assert not right or np.mean(right) > 0.85
    assert likely(np.mean(wrong), 0.5, len(wrong))


# Noise.


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_flood_of_edges_ends_rounds_and_no_kernel(attack: Callable[..., Outcome], protocol: str) -> None:
    """The first edge counts; those that nobody reads overflow the input at its next use."""
    run = attack(protocol, "flood", 6, num_batches=6)
    assert run.alice[0].received == (TEST if run.bob[0].setting != 2 else KEY)
    assert len(run.alice) >= 3
