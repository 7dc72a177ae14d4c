"""An acquisition that is interrupted again and again, and the audit of what came out of it.

A trial is a laboratory and two nodes, each a process with the command line of an ordinary run. It is started
with a list of faults, one entry a start, and then without any until both nodes have sealed their records.
After every start the spools are opened, as copies, and their rounds remembered: those are acknowledged. In
the end `audit` compares acknowledged rounds, the nodes' traces and both records.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from campaigns.faults.injection import Trace
from campaigns.faults.node_start import NODES, CommandNode, ServedNode
from campaigns.faults.order import played_rounds, violations
from diqkd.demo.parties import LABORATORY, source_file
from diqkd.demo.ports import LOOPBACK, reserved_ports
from diqkd_postproc.protocol.errors import DiqkdError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import ROLES
from diqkd_postproc.records.columns import OWN
from diqkd_postproc.records.round_spool import RoundSpool
from diqkd_postproc.records.sealed_record import EXCHANGED, RoundRecord
from sim_devices.adversaries.link_proxy import LinkFault, LinkProxy
from sim_devices.apparatus.client import ADDRESS_VARIABLE

Node = CommandNode | ServedNode
POLL_S = 0.005
SURVIVOR_S = 20.0  # after which a node that waits for one that died is asked to end
START_TIMEOUT_S = 900.0  # of wall clock: a machine may have much else to do
MAX_CLEAN_STARTS = 4

DATABASE = """
from campaigns.faults.injection import faulty_database
device_db = faulty_database({hardware!r}, {role!r}, {plan!r})
"""


@dataclass(frozen=True)
class Start:
    """What goes wrong in one start: plans of the nodes (`injection`), deaths from outside, the link.

    kill_laboratory: after this number of heralds. kill_other: a node that dies takes the other with it.
    """

    plans: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kill_laboratory: int | None = None
    kill_other: bool = False
    link_fault: LinkFault | None = None


@dataclass
class Trial:
    """One acquisition in `directory`, which is private to this user and removed by whoever made it."""

    directory: Path
    parameters: ProtocolParameters
    seed: int
    batch_rounds: int = 60
    arguments: Mapping[str, Any] = field(default_factory=dict)
    laboratory_options: Sequence[str] = ("--success-probability", "0.1", "--chunk", "8")
    laboratory_faults: Sequence[str] = ()
    common_plan: Mapping[str, Any] = field(default_factory=dict)
    use_proxy: bool = False
    started_as: str = "command"
    environment: Mapping[str, str] = field(default_factory=dict)
    on_running: Callable[[Mapping[str, Node]], None] = lambda processes: None
    expected_tracebacks: bool = False

    findings: list[str] = field(default_factory=list)
    num_starts: int = 0
    num_killed: int = 0
    num_link_faults: int = 0
    messages: list[str] = field(default_factory=list)
    link_bytes: dict[str, bytes] = field(default_factory=lambda: {"alice": b"", "bob": b""})

    def __post_init__(self) -> None:
        self.parameters.save(self.directory / "parameters.toml")
        self._laboratory: subprocess.Popen[str] | None = None
        self._address = ""
        self._log_length = dict.fromkeys(ROLES, 0)
        self._acknowledged: dict[str, list[dict[str, Any]]] = {role: [] for role in ROLES}
        self._acknowledged_by_start: dict[str, dict[int, int]] = {role: {} for role in ROLES}

    # Running.

    def run(self, starts: Sequence[Start]) -> None:
        """All faulty starts, then clean ones until both nodes end well, then the audit."""
        try:
            for start in starts:
                if self._start(start):
                    break  # it was complete before the fault came
            else:
                if not any(self._start(Start()) for _ in range(MAX_CLEAN_STARTS)):
                    self.findings.append(f"the run does not end: {' / '.join(self.messages[-2:])}")
                    return
        finally:
            self._end_laboratory()
        self.audit()

    def _start(self, start: Start) -> bool:
        """One start of everything that does not run; True if both nodes sealed their records."""
        self._begin_laboratory()
        self.num_starts += 1
        with reserved_ports(1) as port:
            return self._run_nodes(start, port)

    def _run_nodes(self, start: Start, port: int) -> bool:
        proxied = self.use_proxy or start.link_fault is not None
        proxy = LinkProxy((LOOPBACK, port), start.link_fault) if proxied else None
        ports = {"bob": port, "alice": proxy.address[1] if proxy else port}
        processes = {role: self._begin_node(role, ports[role], start) for role in ROLES}
        try:
            self._wait(processes, start)
        finally:
            for process in processes.values():
                if process.poll() is None:
                    process.kill()
            if proxy is not None:
                proxy.close()
                self.num_link_faults += proxy.happened
                for role in ROLES:
                    self.link_bytes[role] += bytes(proxy.recorded[role])
        for role, process in processes.items():
            self._take_leave(role, process.poll())
            self._remember(role)
        return all(process.poll() == 0 for process in processes.values())

    def _begin_laboratory(self) -> None:
        if self._laboratory is not None and self._laboratory.poll() is None:
            return
        seed = str(self.seed + self.num_starts)
        self._laboratory = subprocess.Popen(
            [
                *LABORATORY,
                "--label-mismatch=0",  # the audit compares the nodes' patterns
                "--stdin",
                "--port",
                "0",
                "--seed",
                seed,
                *self.laboratory_options,
                *self.laboratory_faults,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._laboratory.stdout is not None
        self._address = self._laboratory.stdout.readline().split()[-1]

    def _end_laboratory(self) -> None:
        if self._laboratory is not None:
            self._laboratory.kill()
            self._laboratory.wait()

    def _begin_node(self, role: str, port: int, start: Start) -> Node:
        folder = self.directory / role
        trace = self.directory / f"{role}.trace"
        plan = {
            "trace": str(trace),
            "start": self.num_starts,
            **self.common_plan,
            **start.plans.get(role, {}),
        }
        plan_file = self.directory / f"{role}.plan.json"
        plan_file.write_text(json.dumps(plan), encoding="utf-8")
        database = self.directory / f"{role}_db.py"
        hardware = str(source_file(f"device_db/{role}.py"))
        database.write_text(
            DATABASE.format(hardware=hardware, role=role, plan=str(plan_file)), encoding="utf-8"
        )
        arguments = {
            "role": role,
            "parameters_file": self.directory / "parameters.toml",
            "run_directory": folder,
            "peer_host": LOOPBACK,
            "peer_port": port,
            "peer_timeout": START_TIMEOUT_S,
            "batch_rounds": self.batch_rounds,
            **self.arguments,
        }
        experiment = str(source_file("repository/key_generation.py"))
        command = ["node", experiment, "--device-db", str(database), "--progress", "none"]
        command += [f"{name}={value}" for name, value in arguments.items()]
        environment = {ADDRESS_VARIABLE: self._address, **self.environment}
        return NODES[self.started_as](command, environment, self.directory / f"{role}.log")

    def _wait(self, processes: Mapping[str, Node], start: Start) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        laboratory = self._laboratory
        assert laboratory is not None
        ended, asked_to_end = 0.0, False
        heralds_before = self._num_heralds() if start.kill_laboratory is not None else 0
        while any(process.poll() is None for process in processes.values()):
            self.on_running(processes)
            if start.kill_other and any(process.poll() not in (None, 0) for process in processes.values()):
                for process in processes.values():
                    process.kill()
            if (
                start.kill_laboratory is not None
                and laboratory.poll() is None
                and self._num_heralds() - heralds_before >= start.kill_laboratory
            ):
                laboratory.kill()
                laboratory.wait()
                self.num_killed += 1
            if any(process.poll() is not None for process in processes.values()) and not asked_to_end:
                ended = ended or time.monotonic()
                if time.monotonic() > ended + SURVIVOR_S:
                    asked_to_end = True
                    for process in processes.values():
                        process.terminate()
            if time.monotonic() > deadline:
                stuck = [role for role, process in processes.items() if process.poll() is None]
                self.findings.append(
                    f"start {self.num_starts}: {' and '.join(stuck)} hung for {START_TIMEOUT_S:g} s"
                )
                return
            time.sleep(POLL_S)

    def _num_heralds(self) -> int:
        return sum("herald" in line for line in Trace.read(self.directory / "bob.trace"))

    def _take_leave(self, role: str, code: int | None) -> None:
        log = (self.directory / f"{role}.log").read_bytes()[self._log_length[role] :].decode(errors="replace")
        self._log_length[role] += len(log.encode())
        if code is not None and code < 0:
            self.num_killed += 1
        elif code not in (0, 1, 3, 4, 6, 130):
            self.findings.append(f"{role} ended with exit code {code}")
        if "Traceback" in log and not self.expected_tracebacks:
            self.findings.append(f"{role} ended with a traceback: {log.strip().splitlines()[-1]}")
        self.messages.append(f"{role} {code}: {(log.strip().splitlines() or [''])[-1]}")

    def _remember(self, role: str) -> None:
        """Open a copy of the spool as the dead process has left it, and keep its rounds."""
        spool = self.directory / role / "spool.sqlite"
        if not spool.exists():
            return
        with tempfile.TemporaryDirectory(dir=self.directory) as folder:
            for file in (spool, spool.with_name(spool.name + "-journal")):
                if file.exists():
                    shutil.copy2(file, folder)
            try:
                with RoundSpool.open(Path(folder) / spool.name, role=role) as copy:
                    self._acknowledged[role].append(copy._table.columns(tuple(OWN)))
                    self._acknowledged_by_start[role][self.num_starts] = copy.rounds_acknowledged
            except DiqkdError as error:
                self.findings.append(f"{role}'s spool is unreadable after start {self.num_starts}: {error}")

    # The audit.

    def audit(self) -> None:
        """Compare records, acknowledged rounds and traces; adds to `findings`."""
        try:
            records = {role: RoundRecord.read(self.directory / role / "record.h5") for role in ROLES}
        except DiqkdError as error:
            self.findings.append(f"unreadable record: {error}")
            return
        self.records = records
        alice, bob = records["alice"], records["bob"]
        if alice.run_id != bob.run_id:
            self.findings.append("the records belong to different runs")
        for name in EXCHANGED:
            if not np.array_equal(getattr(alice, name), getattr(bob, name)):
                self.findings.append(f"{name} differs between the nodes")
        heralded = (alice.herald_pattern > 0) & (bob.herald_pattern > 0)
        if not np.array_equal(alice.herald_pattern[heralded], bob.herald_pattern[heralded]):
            self.findings.append("herald_pattern differs between the nodes")
        for role, record in records.items():
            self._audit_losses(role, record)
            self._audit_acknowledged(role, record)
            self._audit_settings(role, record)
            rounds = played_rounds(Trace.read(self.directory / f"{role}.trace"))
            self.findings += violations(rounds, record, self._acknowledged_by_start[role])
        self._audit_heralds()

    def _audit_losses(self, role: str, record: RoundRecord) -> None:
        if record.outcome[record.lost == 1].any():
            self.findings.append(f"{role} has lost rounds with an outcome")
        noted = [
            number
            for loss in record.attributes["losses"]
            for number in range(loss["first_round"], loss["first_round"] + loss["num_rounds"])
        ]
        if sorted(noted) != np.flatnonzero(record.lost).tolist():
            self.findings.append(f"{role}'s list of losses does not fit the lost rounds")

    def _audit_acknowledged(self, role: str, record: RoundRecord) -> None:
        for columns in self._acknowledged[role]:
            for name in ("setting", "outcome", "herald_pattern", "timestamp_mu", "edge_mu", "lost"):
                if not np.array_equal(getattr(record, name)[: columns[name].size], columns[name]):
                    self.findings.append(f"{role}: acknowledged rounds have changed in {name}")

    def _audit_settings(self, role: str, record: RoundRecord) -> None:
        """No bit is taken twice; every setting is as the order of the round has it from the one drawn, and so
        is every token."""
        end = 0
        drawn, tokens = np.full((2, record.outcome.size), 255, dtype=np.uint8)
        for line in Trace.read(self.directory / f"{role}.trace"):
            if "batch" not in line:
                continue
            start, stop = line["bits"]
            if start < end:
                self.findings.append(f"{role}: bits {start} to {min(end, stop)} were used twice")
            end = stop
            for column, name in ((drawn, "settings"), (tokens, "tokens")):
                values = np.frombuffer(bytes.fromhex(line[name]), dtype=np.uint8)
                column[line["batch"] : line["batch"] + values.size] = values
        applied = record.setting
        if self.parameters.protocol == "ordered" and role == "alice":
            drawn = drawn * (record.received_type == 1)
        elif self.parameters.protocol == "late-type" and role == "bob":
            applied = np.minimum(applied, 2)  # in key rounds 2 + x', whatever came as x'
        if not np.array_equal(drawn, applied):
            self.findings.append(f"{role}: a setting in the record is not the one that was drawn")
        if role == "alice" and not np.array_equal(tokens, record.token):
            self.findings.append(f"{role}: a token in the record is not the one that was drawn")

    def _audit_heralds(self) -> None:
        """In every batch, the record has at least as many rounds as there were heralds at both nodes."""
        heralds = {role: self._heralds_by_batch(role) for role in ROLES}
        batches = sorted(set(heralds["alice"]) | set(heralds["bob"]))
        firsts = [first for _, first in batches] + [self.parameters.num_rounds]
        for batch, first, following in zip(batches, firsts, firsts[1:], strict=False):
            common = heralds["alice"].get(batch, set()) & heralds["bob"].get(batch, set())
            if not len(common) <= following - first:
                self.findings.append(
                    f"{len(common)} heralds in start {batch[0]} from round {first} on, but "
                    f"{following - first} rounds: some were dropped"
                )

    def _heralds_by_batch(self, role: str) -> dict[tuple[int, int], set[int]]:
        batches: dict[tuple[int, int], set[int]] = {}
        start, current = 0, (0, 0)
        for line in Trace.read(self.directory / f"{role}.trace"):
            if "start" in line:
                start = line["start"]
            elif "batch" in line:
                current = (start, line["batch"])
                batches[current] = set()
            elif "herald" in line:
                batches.setdefault(current, set()).add(line["herald"])
        return batches

    @property
    def num_faults(self) -> int:
        """Faults that really happened."""
        noted = [
            line
            for role in ROLES
            for line in Trace.read(self.directory / f"{role}.trace")
            if line.get("fault", "kill") != "kill"
        ]
        return self.num_killed + self.num_link_faults + len(noted)

    @property
    def killed_at(self) -> dict[str, int]:
        """Kills at each step of a round, by protocol, role and step."""
        return Counter(
            f"{self.parameters.protocol} {role} {line['step']}"
            for role in ROLES
            for line in Trace.read(self.directory / f"{role}.trace")
            if line.get("fault") == "kill"
        )

    def summary(self) -> dict[str, Any]:
        """Public numbers of the trial."""
        records = getattr(self, "records", {})
        return {
            "starts": self.num_starts,
            "killed": self.num_killed,
            "faults": self.num_faults,
            "killed_at": self.killed_at,
            "rounds": self.parameters.num_rounds if records else 0,
            "lost": {role: record.num_lost for role, record in records.items()},
            "findings": self.findings,
        }
