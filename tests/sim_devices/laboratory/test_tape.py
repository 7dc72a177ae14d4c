"""The tape gives the same entries whether or not a question makes it grow, and both nodes the same rounds."""

import numpy as np

from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from sim_devices.apparatus.herald_photons import pattern_of
from sim_devices.apparatus.wire import ION_LOST, PARTNER_ION_LOST
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.laboratory.joint_outcomes import ALICE, BOB
from sim_devices.laboratory.tape import Tape


def test_a_loss_is_seen_in_the_stretch_that_extends_the_tape() -> None:
    configuration = LaboratoryConfiguration(
        seed=3, scheduled_faults=((1030, "alice_ion_loss"),), label_mismatch=0.0
    )
    fresh, grown = Tape(configuration), Tape(configuration)
    grown.entries(BOB, 0, 2048)
    alice, bob = fresh.entries(ALICE, 1024, 64), fresh.entries(BOB, 1024, 64)
    np.testing.assert_array_equal(alice, grown.entries(ALICE, 1024, 64))
    assert (alice["fault"][6], bob["fault"][6]) == (ION_LOST, PARTNER_ION_LOST)
    assert not np.delete(alice["fault"], 6).any() and not np.delete(bob["fault"], 6).any()
    for name in ("index", "attempts", "pattern"):
        np.testing.assert_array_equal(alice[name], bob[name])


def test_only_the_slaves_labels_differ_and_nothing_else() -> None:
    count = 40_000
    tapes = [Tape(LaboratoryConfiguration(seed=3, label_mismatch=rate)) for rate in (0.0, 1 / 1700, 0.9)]
    for tape in tapes:
        np.testing.assert_array_equal(tape.entries(BOB, 0, count), tapes[0].entries(BOB, 0, count))
        np.testing.assert_array_equal(tape.uniforms(0, count), tapes[0].uniforms(0, count))
    patterns, usual, often = (tape.entries(ALICE, 0, count)["pattern"] for tape in tapes)
    for labels in (usual, often):
        np.testing.assert_array_equal(pattern_of(labels), patterns)
    assert 5 <= np.count_nonzero(usual != patterns) <= 53  # 23.5 expected; outside 1 in 1e6
    differs = often != patterns
    assert 0.89 < np.mean(differs) < 0.91
    seen, patterns = often[differs] >> 4, patterns[differs]
    assert np.all(seen != patterns)
    is_single = np.isin(seen, (1, 2, 4, 8))
    assert np.all(seen[is_single] & ~patterns[is_single] == 0)
    assert np.all(np.isin(seen[~is_single], HERALD_PATTERNS))
    assert 0.65 < np.mean(is_single) < 0.68
