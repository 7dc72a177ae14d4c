"""Plays rounds on an apparatus as a node's drivers would, without kernel or drivers."""

from dataclasses import dataclass, field

from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from sim_devices.apparatus.node_apparatus import NodeApparatus
from sim_devices.apparatus.partner_connection import LINES
from sim_devices.engines.entangler_core import (
    CONFIG,
    CYCLE_LENGTH,
    HERALDS,
    TIMEOUT_REASON,
    TIMING,
    NodeCore,
    heralds_word,
    timing_word,
)
from sim_devices.physics.constants import ELECTRODE_CHANNELS, NOMINAL_PATTERN_PHASES, TRANSITIONS

WINDOW = 500_000
UNKNOWN_PATTERN = 0
MAP, QUBIT, SHELVE = (frequency for frequency, *_ in TRANSITIONS)
THRESHOLD = 15


@dataclass
class Round:
    """What the node knows after a round; `round_type` None and `outcome` -1 if it did not arrive."""

    pattern: int
    round_type: int | None
    setting: int
    outcome: int


@dataclass
class Player:
    """One node. `settling_mu` and `scrambling_mu` may be shortened to break the rules; `pumping_ns` is of an
    attempt."""

    role: str
    address: str
    settling_mu: int = 30_000
    scrambling_mu: int = 100_000
    patterns: tuple[int, ...] = HERALD_PATTERNS
    pumping_ns: int = 500
    now: int = 1_000_000
    rounds: list[Round] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.apparatus = NodeApparatus(None, self.role, self.address)
        self.apparatus.connect()
        lights = ("ttl_422_cool", "ttl_1092", "ttl_1033", "ttl_674")
        names = (*lights, *(f"{line}{wire}" for line in LINES for wire in ("", "_strobe")))
        self.level = {name: self.apparatus.level_sink(name) for name in names}
        self.set_dds = self.apparatus.dds_sink("dds_674")
        self.set_dac = self.apparatus.dac_sink("fastino")
        self.entangler = NodeCore(self.apparatus.attempts)
        self.apparatus.attempts.attach(self.entangler)
        self.entangler.write(CONFIG, 0b11 if self.role == "bob" else 0b01)
        self.entangler.write(CYCLE_LENGTH, 121)
        self.entangler.write(HERALDS, heralds_word(self.patterns))
        self.entangler.write(TIMING, timing_word(TIMING, 0, self.pumping_ns))
        self.entangler.write(TIMING + 1, timing_word(TIMING + 1, 0, 600))
        self.entangler.write(TIMING + 2, timing_word(TIMING + 2, 650, 700))
        for gate in range(TIMING + 4, TIMING + 8):
            self.entangler.write(gate, timing_word(gate, 20, 60))
        line = "ttl_ready" if self.role == "bob" else "ttl_trigger"
        self.partner_edge = self.apparatus.first_edge_source(line)
        self.edge = {line: self.apparatus.first_edge_source(f"{line}_strobe") for line in LINES}
        self.line_level = {line: self.apparatus.level_source(line) for line in LINES}
        self.lock_level = self.apparatus.level_source("ttl_laser_lock")
        self.counts = self.apparatus.edge_source("pmt_counter")

    def pulse(self, duration: int, *names: str) -> None:
        for name in names:
            self.level[name](self.now, 1)
            self.level[name](self.now + duration, 0)
        self.now += duration

    def move(self, volts: float) -> None:
        for channel in ELECTRODE_CHANNELS:
            self.set_dac(self.now, channel, volts)

    def cooling_counts(self) -> int:
        start = self.now
        self.pulse(300_000, "ttl_422_cool", "ttl_1092")
        return self.counts(start, self.now)

    def synchronise(self) -> bool:
        edge = self.partner_edge(self.now, self.now + 1_000_000)
        self.now = edge + 1_000 if edge >= 0 else self.now + 1_000_000
        return edge >= 0

    def search(self, windows: int = 100) -> tuple[int, int]:
        """(time, pattern) of the herald, or (-1, 0)."""
        for _ in range(windows):
            self.pulse(300_000, "ttl_422_cool", "ttl_1092")
            time, reason = self.entangler.run(self.now, WINDOW >> 3)
            self.now = time + 10_000
            if reason != TIMEOUT_REASON:
                return time, self.patterns[reason.bit_length() - 1] if reason else UNKNOWN_PATTERN
        return -1, 0

    def pulse_674(self, frequency: float, duration: int, phase: float, herald: int) -> None:
        self.set_dds(self.now, frequency, phase, 0.5, herald)
        self.now += 1_000
        self.pulse(duration, "ttl_674")

    def send(self, line: str, bit: int) -> None:
        """Level and strobe at once."""
        self.level[line](self.now, bit)
        self.level[f"{line}_strobe"](self.now, 1)
        self.level[f"{line}_strobe"](self.now + 1_000, 0)
        self.now += 2_000

    def receive(self, line: str, window: int = 1_000_000) -> int | None:
        """The first bit in a gate that opens now."""
        edge = self.edge[line](self.now, self.now + window)
        self.now = edge + 25_000 if edge >= 0 else self.now + window
        return self.line_level[line](edge + 10) if edge >= 0 else None

    def play(self, setting: int, token: int = 1) -> bool:
        """One round of `ordered`; False if there was no partner or no herald. Without Bob's announcement
        there is no measurement."""
        if not self.synchronise():
            return False
        herald, pattern = self.search()
        if herald < 0:
            return False
        self.pulse_674(MAP, 5_000, 0.0, herald)
        self.move(1.0)
        self.now += self.settling_mu
        round_type: int | None
        if self.role == "bob":
            if self.receive("ttl_token") is None:
                self.end_round()
                return False
            round_type = int(setting != 2)
            self.send("ttl_round_type", round_type)
        else:
            self.now += 5_000
            self.send("ttl_token", token)
            round_type = self.receive("ttl_round_type")
            if not round_type:
                setting = 0
        outcome = -1 if round_type is None else self.read_out(setting, pattern, herald)
        self.end_round()
        self.rounds.append(Round(pattern, round_type, setting, outcome))
        return True

    def end_round(self) -> None:
        """Scramble, reconnect."""
        self.pulse(self.scrambling_mu, "ttl_422_cool", "ttl_1092", "ttl_1033")
        self.move(0.0)

    def read_out(self, setting: int, pattern: int, herald: int) -> int:
        if self.role == "alice":
            pulses = {0: (SHELVE, 5_000, 0.0), 1: (QUBIT, 2_500, 0.0)}
        else:
            phase = NOMINAL_PATTERN_PHASES[pattern]
            pulses = {
                0: (QUBIT, 1_250, phase),
                1: (QUBIT, 1_250, phase + 0.5),
                2: (SHELVE, 5_000, 0.0),
            }
        self.pulse_674(*pulses[setting], herald)
        start = self.now
        self.pulse(250_000, "ttl_422_cool", "ttl_1092")
        bright = self.counts(start, self.now) > THRESHOLD
        return int(bright) if self.role == "bob" else int(not bright)

    def close(self) -> None:
        self.apparatus.close()
