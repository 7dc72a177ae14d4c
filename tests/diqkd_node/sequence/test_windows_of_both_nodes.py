"""Windows of attempts of both nodes, their kernels' times put into two linked entangler cores."""

from itertools import pairwise

import pytest

from diqkd_node.configuration import NodeConfiguration
from diqkd_node.sequence.attempts import SLAVE_LAG
from diqkd_postproc.protocol.errors import ParameterError
from sim_devices.engines.entangler_core import (
    COARSE_MU,
    CONFIG,
    CYCLE_LENGTH,
    DARK,
    RTIO_STROBE_DELAY,
    EntanglerCore,
    LinkedCores,
)
from tests.support.scripted_node import WINDOW_ENDED, NotingCoordinator, make_node

NUM_WINDOWS = 12
CABLE_MU = 40


def kernel_times(role: str, **cooling: float) -> tuple[int, list[int], int, int]:
    """(first window after the handshake's end, pauses from a window's end to the next, length of a window,
    programmed cycle), mu, as a node's kernel plays them."""
    node, apparatus = make_node(role, NotingCoordinator([0]), cooling=cooling)
    apparatus.on_run = lambda call: WINDOW_ENDED if call < 5 else 1
    starts, ends = [], []
    attempts = node.attempts
    run_mu = attempts.entangler.run_mu

    def noted_run_mu(duration_mu: int) -> tuple[int, int]:
        starts.append(attempts.core.timeline.now)
        result = run_mu(duration_mu)
        ends.append(result[0])
        return result

    attempts.entangler.run_mu = noted_run_mu
    synchronise, synchronised = node.handshake.synchronise, []

    def noted_synchronise() -> bool:
        answered = synchronise()
        synchronised.append(attempts.core.timeline.now)
        return answered

    node.handshake.synchronise = noted_synchronise
    node.run_batches()
    pauses = [start - end for start, end in zip(starts[1:5], ends[:4], strict=True)]
    return starts[0] - synchronised[0], pauses, int(attempts.window_mu), int(attempts.cycle_mu)


def num_attempts_together(
    first: dict[str, int], pauses: dict[str, int], window: int, cycle: int
) -> list[int]:
    """Attempts of each of Alice's windows, if both nodes play theirs with these pauses."""
    cores = {"bob": EntanglerCore(RTIO_STROBE_DELAY), "alice": EntanglerCore(RTIO_STROBE_DELAY)}
    for role, config in (("bob", 0b011), ("alice", 0b001)):
        cores[role].write(CONFIG, config, 0)
        cores[role].write(CYCLE_LENGTH, cycle // COARSE_MU, 1)
    pair = LinkedCores(cores["bob"], cores["alice"])
    starts = {role: 1000 + first[role] // COARSE_MU for role in cores}
    counts: list[int] = []
    running: set[str] = set()
    while len(counts) < NUM_WINDOWS:
        due = min(
            (role for role in cores if role not in running), key=lambda role: starts[role], default=None
        )
        if due is None:
            pair.advance_to_end(pair.now + 10**6)
        elif starts[due] + RTIO_STROBE_DELAY <= pair.now or not running:
            cores[due].start(starts[due], window // COARSE_MU, DARK)
            running.add(due)
            continue
        else:
            pair.advance_to_end(starts[due] + RTIO_STROBE_DELAY)
        for role in sorted(running):
            outcome = cores[role].outcome
            if outcome is not None:
                running.remove(role)
                starts[role] = outcome.end + pauses[role] // COARSE_MU
                if role == "alice":
                    counts.append(outcome.num_attempts)
    return counts


@pytest.fixture(scope="module")
def times() -> dict[str, tuple[int, list[int], int, int]]:
    return {role: kernel_times(role) for role in ("alice", "bob")}


def test_both_nodes_play_the_same_windows_but_for_the_lag(
    times: dict[str, tuple[int, list[int], int, int]],
) -> None:
    lag = round(1e9 * SLAVE_LAG)
    alice, bob = times["alice"], times["bob"]
    assert alice[0] - bob[0] == lag
    assert [pause - other for pause, other in zip(alice[1], bob[1], strict=True)] == [lag] * 4
    assert alice[2:] == bob[2:] == (500_000, 968)
    assert max(abs(later - earlier) for earlier, later in pairwise(bob[1])) == 0


def played(times: dict[str, tuple[int, list[int], int, int]], shift: int, cable: int = CABLE_MU) -> list[int]:
    alice, bob = times["alice"], times["bob"]
    first = {"alice": alice[0] + cable, "bob": bob[0]}
    return num_attempts_together(first, {"alice": alice[1][0] + shift, "bob": bob[1][0]}, *bob[2:])


@pytest.mark.parametrize("cable", [-120, 0, CABLE_MU])
def test_no_attempt_is_lost(times: dict[str, tuple[int, list[int], int, int]], cable: int) -> None:
    assert min(played(times, 0, cable)) >= 500


@pytest.mark.parametrize("shift", [-216, -1_000, -10_000])
def test_a_shorter_pause_of_the_slave_loses_windows(
    times: dict[str, tuple[int, list[int], int, int]], shift: int
) -> None:
    """The control: without the lag, and with a pause that is 16 ns shorter, or more."""
    counts = played(times, shift)
    assert sum(count < 10 for count in counts) >= NUM_WINDOWS // 2


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_bobs_core_is_the_master(role: str) -> None:
    node, _ = make_node(role, NotingCoordinator([0]))
    node.attempts.entangler.is_master = role == "alice"
    with pytest.raises(ParameterError, match="Bob's core is the master"):
        node.attempts.prepare()


def test_an_attempt_is_programmed_four_cycles_short() -> None:
    configuration = NodeConfiguration(role="bob", attempts={"attempt_time": 8.216e-6})
    node, _ = make_node("bob", NotingCoordinator([0]), attempts=configuration.attempts)
    node.setup()
    assert node.attempts.entangler.gateware.registers[CYCLE_LENGTH] == 1023
