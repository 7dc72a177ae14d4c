"""Keep a node at rest while others decide: ion cooled and reloaded, laser watched, link disconnected."""

import logging
import time

from artiq.experiment import *

from diqkd_node.node_arguments import ask_for_node, configuration_of
from diqkd_node.run.deletion import DeletionGuard
from diqkd_node.run.ion_reload import IonReload, loader_of
from diqkd_node.run.public_facts import PublicFacts
from diqkd_node.sequence.node import Node
from diqkd_node.sequence.timebase import machine_units

logger = logging.getLogger(__name__)

BREATH_S = 0.02  # of the host between two looks
LOOK_S = 0.1  # from one look to the next
TELL_S = 1.0  # between two publications of the same facts


class NodeOnHold(EnvExperiment):
    """Node on hold

    Keeps the node at rest until it is terminated, and makes way for calibrations of higher priority. A lost
    ion is reloaded. The lab day submits this to pause a key run."""

    kernel_invariants = {"interval_mu"}

    def build(self):
        self.setattr_device("core")
        self.setattr_device("scheduler")
        ask_for_node(self)

    def prepare(self):
        # This experiment gives its node the one remote call that `recover` needs.
        self.node = Node(self, configuration_of(self), self)
        self.node.prepare()
        self.facts = PublicFacts(self.set_dataset)
        self.deletion = DeletionGuard()
        self.reload = IonReload(loader_of(self))
        self.told = (None, 0.0)
        self.interval_mu = machine_units(self.core, LOOK_S)

    def run(self):
        self.now = self.get_device("clock").now if "clock" in self.get_device_db() else time.time
        with self.deletion:
            try:
                while True:
                    self.keep()
                    self.core.close()
                    self.deletion.raise_if_deleted()
                    self.scheduler.pause()
            except TerminationRequested:
                logger.info("hold released")

    @kernel
    def keep(self):
        """Look after ion and laser until the host wants to stop; from rest to rest."""
        self.node.setup()
        while self.node.recover() and self.is_well():
            self.core.break_realtime()
            delay_mu(self.interval_mu)
        self.node.come_to_rest()

    def is_well(self) -> TBool:
        """Ion and laser are there; False if the scheduler wants this experiment to pause or end."""
        self.reload.ion_is_back()
        self.tell(True, True)
        time.sleep(BREATH_S)
        return self.goes_on()

    def wait_for_recovery(self, locked, ion_present) -> TBool:
        """Ion or laser is away; False if the scheduler wants this experiment to pause or end."""
        self.tell(bool(locked), bool(ion_present))
        if not ion_present:
            self.reload.no_ion("the hold")
        return self.goes_on()

    def goes_on(self):
        """Whether the scheduler lets this experiment go on."""
        return not self.deletion.ask(self.scheduler.check_pause, otherwise=True)

    def tell(self, locked, ion_present):
        """Publish how the node is, when that has changed and now and then."""
        seen, told_s = self.told
        if seen == (locked, ion_present) and time.monotonic() - told_s < TELL_S:
            return
        self.told = ((locked, ion_present), time.monotonic())
        self.deletion.ask(
            self.facts.publish,
            node_state="calibrating",
            ion_state="present" if ion_present else "absent",
            laser_lock="locked" if locked else "lost",
            last_update_unix=float(self.now()),
        )
