"""Node at rest during a pause: ion isolated, cooled and reloaded if lost, laser lock monitored."""

import logging
import time

from artiq.experiment import *

from diqkd_node.node_arguments import ask_for_node, configuration_of
from diqkd_node.run.deletion import DeletionGuard
from diqkd_node.run.environment import clock_of
from diqkd_node.run.ion_reload import IonReload, loader_of
from diqkd_node.run.public_facts import PublicFacts
from diqkd_node.sequence.node import Node
from diqkd_node.sequence.timebase import machine_units

logger = logging.getLogger(__name__)

HOST_WAIT_S = 0.02  # in each call of the kernel, which leaves the processor to other programs
CHECK_INTERVAL_S = 0.1  # between two checks of ion and laser
PUBLISH_INTERVAL_S = 1.0  # between two publications of the same facts


class NodeOnHold(EnvExperiment):
    """Node on hold

    Keeps the node at rest until it is terminated, and pauses for calibrations of higher priority. A lost
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
        self.published = (None, 0.0)  # (locked, ion present), monotonic time (s)
        self.interval_mu = machine_units(self.core, CHECK_INTERVAL_S)

    def run(self):
        self.now = clock_of(self)
        with self.deletion:
            try:
                while True:
                    self.keep_at_rest()
                    self.core.close()
                    self.deletion.raise_if_deleted()
                    self.scheduler.pause()
            except TerminationRequested:
                logger.info("hold released")

    @kernel
    def keep_at_rest(self):
        """Check ion and laser until the host wants to stop. The node is at rest before and after."""
        self.node.setup()
        while self.node.recover() and self.wait_at_rest():
            self.core.break_realtime()
            delay_mu(self.interval_mu)
        self.node.come_to_rest()

    def wait_at_rest(self) -> TBool:
        """Ion is present, laser locked; False if the scheduler wants this experiment to pause or end."""
        self.reload.ion_is_back()
        self.publish(True, True)
        time.sleep(HOST_WAIT_S)
        return self.may_continue()

    def wait_for_recovery(self, locked, ion_present) -> TBool:
        """Ion is lost or laser unlocked; False if the scheduler wants this experiment to pause or end."""
        self.publish(bool(locked), bool(ion_present))
        if not ion_present:
            self.reload.no_ion("the hold")
        return self.may_continue()

    def may_continue(self):
        """False if the scheduler wants this experiment to pause or end."""
        return not self.deletion.call(self.scheduler.check_pause, if_deleted=True)

    def publish(self, locked, ion_present):
        """Publish the state of the node at every change, and every PUBLISH_INTERVAL_S."""
        state, published_s = self.published
        if state == (locked, ion_present) and time.monotonic() - published_s < PUBLISH_INTERVAL_S:
            return
        self.published = ((locked, ion_present), time.monotonic())
        self.deletion.call(
            self.facts.publish,
            node_state="calibrating",
            ion_state="present" if ion_present else "absent",
            laser_lock="locked" if locked else "lost",
            last_update_unix=float(self.now()),
        )
