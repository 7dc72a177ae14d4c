"""A node: the steps of a round put together, and the kernel that runs batches of rounds.

Alice and Bob differ in the direction of three lines and in a table of pulses, all chosen at `build`; the
kernel is one. It talks to the host's `coordinator` by remote calls:

* `begin_batch() -> settings`: blocks until both nodes are ready; an empty list ends the kernel;
* `store(count, outcome, round_type, pattern_index, timestamp_mu)`: asynchronous, one chunk of rounds;
* `check(done, condition) -> limit`: at most every `check_interval`, the round at which to leave the batch;
* `end_batch(done, condition)`: the node left the batch, and why;
* `abandon_batch(done, in_doubt)`: an exception took it out of the batch, after a herald if `in_doubt`;
* `wait_for_recovery(locked, ion_present) -> go on`: while laser or ion are away.

A herald is a round. What goes wrong after it costs the outcome, never the round: it is stored as LOST, or,
where Alice has not learnt its type, left to the nodes' reconciliation over the classical link.
However the kernel ends, the link is disconnected and the ion is being cooled.
"""

from artiq.coredevice.exceptions import RTIOUnderflow
from artiq.experiment import *
from numpy import int64

from diqkd_node.sequence.attempts import EntanglerAttempts, TTLAttempts
from diqkd_node.sequence.conditions import (
    ION_LOST,
    LOCK_LOST,
    RUNNING,
    TOO_MANY_UNDERFLOWS,
    TYPE_MISSING,
    UNDERFLOW_BEFORE_TYPE,
)
from diqkd_node.sequence.handshake import ReadyHandshake, TriggerHandshake
from diqkd_node.sequence.pulse_table import PulseTable
from diqkd_node.sequence.round_type_line import RoundTypeReceiver, RoundTypeSender
from diqkd_node.sequence.steps import Steps
from diqkd_node.sequence.timebase import CYCLE_MU, machine_units

LOST = -1


class Node(Steps):
    """All steps for one role. `coordinator` gives the remote calls named in the module's docstring; it may
    be set later, before the first batch."""

    kernel_invariants = {
        "chunk_rounds",
        "check_mu",
        "recovery_mu",
        "ion_check_rounds",
        "max_underflows",
        "key_setting",
        "num_tries",
    }

    def build(self, configuration, coordinator=None, pulse_table=None):
        """`pulse_table`: of a scan; None for the rounds of a key run."""
        table = pulse_table or PulseTable.of_rounds(configuration)
        super().build(configuration, table)
        self.coordinator = coordinator
        self.key_setting = table.key_setting
        if configuration.attempts.source == "ttl":
            self.attempts = TTLAttempts(self, configuration)
        else:
            self.attempts = EntanglerAttempts(self, configuration)
        if configuration.role == "alice":
            self.handshake = ReadyHandshake(self, configuration)
            self.round_type_link = RoundTypeReceiver(self, configuration)
        else:
            self.handshake = TriggerHandshake(self, configuration)
            self.round_type_link = RoundTypeSender(self, configuration, table.key_setting)

    def prepare(self):
        self.call_child_method("prepare")
        self.chunk_rounds = self.configuration.batches.chunk_rounds
        self.check_mu = machine_units(self.core, self.configuration.batches.check_interval)
        self.recovery_mu = machine_units(self.core, self.configuration.batches.recovery_interval)
        self.ion_check_rounds = self.configuration.ion_watch.check_rounds
        self.num_tries = self.configuration.handshake.tries
        self.max_underflows = self.configuration.batches.max_underflows

    @kernel
    def setup(self):
        """Reset the core and initialise every device; ends in the resting state. Takes milliseconds."""
        self.core.reset()
        self.isolation.setup()
        self.cooling.setup()
        self.analysis.setup()
        self.attempts.setup()
        delay_mu(CYCLE_MU)
        self.handshake.setup()
        delay_mu(CYCLE_MU)
        self.round_type_link.setup()
        self.lock_monitor.setup()
        self.rest()

    @kernel
    def release(self):
        """No attempts for now."""
        self.attempts.release_outputs()

    @kernel
    def begin_rounds(self):
        """From the resting state to the start of a round. Breaks real time."""
        self.core.break_realtime()
        self.attempts.take_outputs()
        self.cooling.off()
        self.scrambling.scramble()
        self.isolation.reconnect()

    @kernel
    def start_over(self, underflows: TInt32) -> TInt32:
        """After an underflow: set up everything, then `begin_rounds`, again where that meets another one.

        Returns the number of underflows so far; beyond `max_underflows` it leaves the node at rest. Breaks
        real time.
        """
        ended = False
        while not ended:
            try:
                self.setup()
                self.begin_rounds()
                ended = True
            except RTIOUnderflow:
                underflows += 1
                if underflows > self.max_underflows:
                    self.setup()
                    ended = True
        return underflows

    @kernel
    def cool_and_synchronise(self) -> TBool:
        """Cool, then meet the partner, again and again; False if it stayed silent for a while."""
        num_left = self.num_tries
        synchronised = False
        while not synchronised and num_left > 0:
            self.cooling.pulse()
            synchronised = self.handshake.synchronise()
            num_left -= 1
        return synchronised

    @kernel
    def look(self) -> TTuple([TBool, TBool]):
        """From rest to rest: whether the laser is locked, and whether an ion is there. Breaks real time."""
        self.core.break_realtime()
        self.lock_monitor.request()
        locked = self.lock_monitor.fetch()
        self.core.break_realtime()
        self.cooling.off()
        ion_present = self.ion_watch.present()
        self.rest()
        return locked, ion_present

    @kernel
    def recover(self) -> TBool:
        """Wait at rest until the laser is locked and an ion is there; False if the host wants to stop.

        Underflows are overcome by another look, at most `max_underflows` times.
        """
        waiting = True
        going_on = True
        underflows = 0
        while waiting and going_on:
            locked = False
            ion_present = False
            looked = False
            while not looked:
                try:
                    locked, ion_present = self.look()
                    looked = True
                except RTIOUnderflow:
                    underflows += 1
                    self.setup()
                    if underflows > self.max_underflows:
                        raise
            if locked and ion_present:
                waiting = False
            else:
                going_on = self.coordinator.wait_for_recovery(locked, ion_present)
                self.core.break_realtime()
                delay_mu(self.recovery_mu)
                self.cooling.stay_on()
        return going_on

    @kernel
    def run_batches(self):
        """Run batches until the coordinator ends it; always leaves the node at rest."""
        try:
            self.setup()
            while self.run_batch():
                pass
        finally:
            self.come_to_rest()

    @kernel
    def run_batch(self) -> TBool:
        """One batch, from readiness to the last stored round; False if the coordinator gave none."""
        if not self.recover():
            return False
        settings = self.coordinator.begin_batch()
        limit = len(settings)
        if limit == 0:
            return False
        chunk_rounds = self.chunk_rounds
        outcomes = [0 for _ in range(chunk_rounds)]
        round_types = [0 for _ in range(chunk_rounds)]
        pattern_indices = [0 for _ in range(chunk_rounds)]
        timestamps = [int64(0) for _ in range(chunk_rounds)]
        done = 0
        in_chunk = 0
        underflows = 0
        condition = RUNNING
        look_for_ion = False
        t_herald = int64(0)
        pattern_index = -1
        round_type = -1
        heralded = False
        try:
            try:
                self.begin_rounds()
            except RTIOUnderflow:
                underflows = self.start_over(1)
                if underflows > self.max_underflows:
                    condition = TOO_MANY_UNDERFLOWS
                    limit = 0
            t_check = now_mu() + self.check_mu
            while done < limit:
                pattern_index = -1
                round_type = -1
                outcome = LOST
                locked = True
                try:
                    if look_for_ion and not self.ion_watch.present():
                        condition = ION_LOST
                    elif self.cool_and_synchronise():
                        t_herald, pattern_index = self.attempts.search()
                    if pattern_index >= 0:
                        heralded = True
                        self.analysis.map_qubit(t_herald)
                        self.isolation.disconnect()
                        setting = settings[done]
                        round_type = self.round_type_link.exchange(setting)
                        if round_type >= 0:
                            if round_type == 0:
                                setting = self.key_setting
                            self.analysis.select_basis(t_herald, setting, pattern_index)
                            self.lock_monitor.request()
                            self.readout.detect()
                            self.scrambling.scramble()
                            self.isolation.reconnect()
                            outcome = self.readout.fetch_outcome()
                            locked = self.lock_monitor.fetch()
                        else:
                            condition = TYPE_MISSING
                except RTIOUnderflow:
                    underflows = self.start_over(underflows + 1)
                    outcome = LOST
                    if pattern_index >= 0 and round_type < 0:
                        round_type = self.round_type_link.known_type(settings[done])
                        if round_type < 0:
                            condition = UNDERFLOW_BEFORE_TYPE
                    if underflows > self.max_underflows:
                        condition = TOO_MANY_UNDERFLOWS
                if pattern_index >= 0 and round_type >= 0:
                    outcomes[in_chunk] = outcome
                    round_types[in_chunk] = round_type
                    pattern_indices[in_chunk] = pattern_index
                    timestamps[in_chunk] = t_herald
                    in_chunk += 1
                    done += 1
                    heralded = False
                    if in_chunk == chunk_rounds:
                        self.coordinator.store(in_chunk, outcomes, round_types, pattern_indices, timestamps)
                        in_chunk = 0
                        self.core.break_realtime()
                look_for_ion = pattern_index < 0 or done % self.ion_check_rounds == 0
                if condition != RUNNING and condition != LOCK_LOST:
                    limit = done
                elif not locked or pattern_index < 0 or now_mu() > t_check:
                    if not locked:
                        condition = LOCK_LOST
                    # The host may take seconds, when the other node does.
                    self.core.break_realtime()
                    self.cooling.stay_on()
                    limit = self.coordinator.check(done, condition)
                    self.core.break_realtime()
                    self.cooling.off()
                    t_check = now_mu() + self.check_mu
        except:  # noqa: E722 (the compiler's only way to catch whatever comes; it is raised again)
            if heralded and round_type < 0:
                round_type = self.round_type_link.known_type(settings[done])
            if heralded and round_type >= 0:
                outcomes[in_chunk] = LOST
                round_types[in_chunk] = round_type
                pattern_indices[in_chunk] = pattern_index
                timestamps[in_chunk] = t_herald
                in_chunk += 1
                done += 1
                heralded = False
            if in_chunk > 0:
                self.coordinator.store(in_chunk, outcomes, round_types, pattern_indices, timestamps)
            self.coordinator.abandon_batch(done, heralded)
            raise
        self.rest()
        if in_chunk > 0:
            self.coordinator.store(in_chunk, outcomes, round_types, pattern_indices, timestamps)
        self.coordinator.end_batch(done, condition)
        return True
