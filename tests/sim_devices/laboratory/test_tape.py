"""The tape gives the same answers whether or not a question makes it grow."""

from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.laboratory.tape import Tape


def test_a_loss_is_seen_in_the_stretch_that_extends_the_tape():
    configuration = LaboratoryConfiguration(seed=3, scheduled_faults=((1030, "alice_ion_loss"),))
    fresh, grown = Tape(configuration), Tape(configuration)
    grown.bob_entries(0, 2048)
    assert fresh.alice_loss_before(1024, 64) == 6
    assert grown.alice_loss_before(1024, 64) == 6
