"""A node: the steps of a round put together, and the kernel that runs batches of rounds.

Alice and Bob differ in their class of `rounds` and in a table of pulses, both chosen at `build`; the kernel
is one. It talks to the host's `coordinator` by remote calls:

* `begin_batch() -> draws`: blocks until both nodes are ready; an empty list ends the kernel. A draw is a
  setting with the token in bit 8;
* `store(count, ...)`: asynchronous, one `Chunk` of rounds;
* `check(done, condition) -> limit`: at least every `check_interval`, how many rounds may be played;
* `end_batch(done, condition)`: the node left the batch, and why;
* `abandon_batch(done)`: an exception took it out of the batch;
* `wait_for_recovery(locked, ion_present) -> go on`: while laser or ion are away.

A round whose index is used up is stored whatever happens in it; an exception within a round ends the round,
not the run. However the kernel ends, the link is disconnected and the ion is being cooled.
"""

from artiq.coredevice.exceptions import RTIODestinationUnreachable, RTIOOverflow, RTIOUnderflow
from artiq.experiment import *
from numpy import int64

from diqkd_node.sequence.attempts import EntanglerAttempts, TTLAttempts
from diqkd_node.sequence.chunk import Chunk
from diqkd_node.sequence.conditions import (
    FAILED,
    ION_LOST,
    LOCK_LOST,
    MEASURED,
    NOT_ANNOUNCED,
    OVERFLOW,
    RUNNING,
    STOPPED,
    TOO_MANY_FAILURES,
    TYPE_MISSING,
    UNDERFLOW,
    UNREACHABLE,
)
from diqkd_node.sequence.handshake import ReadyHandshake, TriggerHandshake
from diqkd_node.sequence.pulse_table import PulseTable
from diqkd_node.sequence.rounds import LOST, ROUNDS
from diqkd_node.sequence.steps import Steps
from diqkd_node.sequence.timebase import CYCLE_MU, machine_units

SETTING_BITS = 8  # of a draw; the token is the next bit
TOKEN = 1 << SETTING_BITS


class Node(Steps):
    """All steps for one role. `coordinator` gives the remote calls named in the module's docstring; it may
    be set later, before the first batch."""

    kernel_invariants = {
        "check_mu",
        "recovery_mu",
        "ion_check_rounds",
        "max_underflows",
        "num_tries",
    }

    def build(self, configuration, coordinator=None, pulse_table=None, protocol="ordered", end_token=False):
        """`pulse_table`: of a scan; None for the rounds of a key run."""
        table = pulse_table or PulseTable.of_rounds(configuration)
        super().build(configuration, table)
        self.coordinator = coordinator
        if configuration.attempts.source == "ttl":
            self.attempts = TTLAttempts(self, configuration)
        else:
            self.attempts = EntanglerAttempts(self, configuration)
        if configuration.role == "alice":
            self.handshake = ReadyHandshake(self, configuration)
        else:
            self.handshake = TriggerHandshake(self, configuration)
        self.round = ROUNDS[configuration.role, protocol](
            self, configuration, self, end_token, table.key_setting
        )
        self.chunk = Chunk(self, configuration, self.round)
        self.t_herald = int64(0)
        self.pattern_index = -1

    def prepare(self):
        self.call_child_method("prepare")
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
        self.round.setup()
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
    def find_herald(self, look_for_ion: TBool) -> TBool:
        """Search a herald: `t_herald`, `pattern_index` or -1 where none came. False if there is no ion."""
        self.pattern_index = -1
        if look_for_ion and not self.ion_watch.present():
            return False
        if self.cool_and_synchronise():
            self.t_herald, self.pattern_index = self.attempts.search()
        return True

    @kernel
    def play_round(self, draw: TInt32) -> TInt32:
        """The round of the last herald, with its results in `round`; why it has no outcome, or MEASURED."""
        self.round.begin()
        # No shift: for it LLVM makes a mask, which ARTIQ 8's (15.0.7) loses in some RISC-V code.
        setting = draw
        token = 0
        if draw >= TOKEN:
            setting = draw - TOKEN
            token = 1
        self.round.play(self.t_herald, self.pattern_index, setting, token)
        if self.round.used and self.round.outcome == LOST:
            return NOT_ANNOUNCED
        return MEASURED

    @kernel
    def send_chunk(self):
        """Send the rounds of the chunk to the host, if there are any. Consumes slack."""
        chunk = self.chunk
        if chunk.count > 0:
            self.coordinator.store(
                chunk.count,
                chunk.outcomes,
                chunk.received,
                chunk.received_settings,
                chunk.received_ends,
                chunk.pattern_indices,
                chunk.heralds,
                chunk.edges,
                chunk.losses,
            )
            chunk.clear()

    @kernel
    def run_batch(self) -> TBool:
        """One batch, from readiness to the last stored round; False if the coordinator gave none."""
        if not self.recover():
            return False
        draws = self.coordinator.begin_batch()
        num_rounds = len(draws)
        if num_rounds == 0:
            return False
        limit = 0
        done = 0
        failures = 0
        condition = RUNNING
        look_for_ion = False
        self.round.begin()
        self.chunk.clear()
        try:
            limit = self.coordinator.check(0, RUNNING)
            try:
                self.begin_rounds()
            except RTIOUnderflow:
                failures = self.start_over(1)
                if failures > self.max_underflows:
                    condition = TOO_MANY_FAILURES
                    limit = 0
            t_check = now_mu() + self.check_mu
            while done < limit:
                self.pattern_index = -1
                self.round.begin()
                loss = MEASURED
                failed = False
                try:
                    if not self.find_herald(look_for_ion):
                        condition = ION_LOST
                    if self.pattern_index >= 0:
                        loss = self.play_round(draws[done])
                except RTIOUnderflow:
                    loss = UNDERFLOW
                    failed = True
                except RTIOOverflow:
                    loss = OVERFLOW
                    failed = True
                except RTIODestinationUnreachable:
                    loss = UNREACHABLE
                    failed = True
                except TerminationRequested:
                    raise
                except:  # noqa: E722 (the compiler's only way to catch whatever comes)
                    loss = FAILED
                    failed = True
                    if failures >= self.max_underflows:
                        raise  # it says more than "too many failures"
                if failed:
                    self.round.interrupt()
                    failures = self.start_over(failures + 1)
                    if failures > self.max_underflows:
                        condition = TOO_MANY_FAILURES
                if self.round.used:
                    if self.round.never_announced():
                        condition = TYPE_MISSING
                    self.chunk.append(self.t_herald, self.pattern_index, loss)
                    self.round.used = False  # at once: an exception from here on must not append it again
                    done += 1
                    if self.chunk.is_full():
                        self.send_chunk()
                        self.core.break_realtime()
                look_for_ion = self.pattern_index < 0 or done % self.ion_check_rounds == 0
                if condition != RUNNING and condition != LOCK_LOST:
                    limit = done
                elif (
                    not self.round.locked
                    or self.pattern_index < 0
                    or now_mu() > t_check
                    or (done == limit and done < num_rounds)
                ):
                    if not self.round.locked:
                        condition = LOCK_LOST
                    # The host may take seconds, when the other node does.
                    self.core.break_realtime()
                    self.cooling.stay_on()
                    limit = self.coordinator.check(done, condition)
                    self.core.break_realtime()
                    self.cooling.off()
                    t_check = now_mu() + self.check_mu
        except:  # noqa: E722 (the compiler's only way to catch whatever comes; it is raised again)
            if self.round.used:
                self.round.interrupt()
                self.chunk.append(self.t_herald, self.pattern_index, STOPPED)
                done += 1
            self.send_chunk()
            self.coordinator.abandon_batch(done)
            raise
        self.rest()
        self.send_chunk()
        self.coordinator.end_batch(done, condition)
        return True
