"""The tape gives the same entries whether or not a question makes it grow, and both nodes the same rounds."""

import numpy as np

from sim_devices.apparatus.wire import ION_LOST, PARTNER_ION_LOST
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.laboratory.joint_outcomes import ALICE, BOB
from sim_devices.laboratory.tape import Tape


def test_a_loss_is_seen_in_the_stretch_that_extends_the_tape() -> None:
    configuration = LaboratoryConfiguration(seed=3, scheduled_faults=((1030, "alice_ion_loss"),))
    fresh, grown = Tape(configuration), Tape(configuration)
    grown.entries(BOB, 0, 2048)
    alice, bob = fresh.entries(ALICE, 1024, 64), fresh.entries(BOB, 1024, 64)
    np.testing.assert_array_equal(alice, grown.entries(ALICE, 1024, 64))
    assert (alice["fault"][6], bob["fault"][6]) == (ION_LOST, PARTNER_ION_LOST)
    assert not np.delete(alice["fault"], 6).any() and not np.delete(bob["fault"], 6).any()
    for name in ("index", "attempts", "pattern"):
        np.testing.assert_array_equal(alice[name], bob[name])
