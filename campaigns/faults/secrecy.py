"""A whole run at the most talkative log level, and the search for its secrets in everything it has left.

Two nodes acquire, one of them crashing once and killed once, both resumed; then both post-process, to a key,
to an abort of the CHSH test, and to a crash in the middle. The canary knows the random bits (repeated from a
seed), outcomes, Bob's settings, initial and generated keys. Searched are all files but the private ones, logs
with tracebacks, temporary files while they exist, arguments and environment of the processes, and the bytes
on both wires. Before the verdict is believed, planted leaks have to be found.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from campaigns.faults.canary import Canary
from campaigns.faults.scenarios import short_parameters
from campaigns.faults.trial import Start, Trial
from diqkd.demo.ports import LOOPBACK, reserved_ports
from diqkd_node.controllers.simulated_quantis import SimulatedQuantis
from diqkd_postproc.files import make_private_directory
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.protocol.roles import ROLES
from sim_devices.adversaries.link_proxy import LinkProxy
from sim_devices.databases.simulated import QRNG_SEED_VARIABLE

NUM_ROUNDS = 400
KEY_BITS = 256
QRNG_BYTES = 16_384  # a node reads 4096 for the start-up test and one or two for a round
PRIVATE = frozenset(
    {
        *("spool.sqlite", "spool.sqlite-journal", "record.h5", "keys.sqlite", "keys.sqlite-journal"),
        *(f"{role}.trace" for role in ROLES),  # the trial's own, with settings
    }
)
OUTCOMES = {"key": 0, "abort": 3, "crash": 1}
STARTS = (
    Start({"bob": {"crash": True}}),
    Start({"alice": {"death": {"from": "batch", "calls": 5000}}}),
)
PARTY_TIMEOUT_S = 900.0
SAMPLE_S = 0.02

# The parameters are no proof's; `crash` stops the work in the middle by an error that nobody expects.
PARTY = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
logging.getLogger("numba").setLevel(logging.INFO)
from diqkd import cli
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.security import certification
from diqkd_postproc.session.computation import Computation
certification.load_certified = ProtocolParameters.load
def crash(*_):
    raise RuntimeError("a crash on purpose")
if sys.argv[1] == "crash":
    Computation._validate = Computation._count_losses = Computation._tag = crash
sys.exit(cli.main(sys.argv[2:]))
"""


@dataclass
class Witness:
    """Collects what others can see of running processes: /proc, and the folder for temporary files."""

    temporary: Path
    seen: set[bytes] = field(default_factory=set)
    _last: float = 0.0

    def look(self, pids: list[int]) -> None:
        """Take note, at most every SAMPLE_S."""
        if time.monotonic() - self._last < SAMPLE_S:
            return
        self._last = time.monotonic()
        for path in [Path(f"/proc/{pid}/{name}") for pid in pids for name in ("cmdline", "environ")]:
            self._read(path)
        for path in self.temporary.rglob("*"):
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            self.seen.add(path.read_bytes())
        except OSError:
            return  # gone, or a folder


class SecrecyTrial:
    """Runs in `directory`; `run` gives the verdict."""

    def __init__(
        self,
        directory: Path,
        seed: int = 1,
        starts: Sequence[Start] = STARTS,
        outcomes: Sequence[str] = tuple(OUTCOMES),
    ) -> None:
        self.directory = directory
        self._starts, self._outcomes = starts, outcomes
        self.seed = seed
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        self._witness = Witness(self.temporary)
        self._wire = bytearray()
        self._environment = {QRNG_SEED_VARIABLE: str(seed), "TMPDIR": str(self.temporary)}
        self.findings: list[str] = []
        self.parameters = short_parameters(
            NUM_ROUNDS,
            key_bits=KEY_BITS,
            max_late_losses=60,  # two batches: a herald that one node missed
            one_bit_error=1e-6,
            omega_threshold=0.51,
            syndrome_bits=NUM_ROUNDS - 10,  # corrects the rounds that the faults cost
        )

    def run(self) -> dict[str, Any]:
        """The verdict: bytes searched, hits by place, and whether planted leaks were found."""
        secrets = self._acquire()
        for outcome in self._outcomes:
            secrets |= self._postprocess(outcome)
        canary = Canary(secrets)
        hits = canary.find_in_folder(self.directory, PRIVATE)
        for place, data in (
            ("seen while running", b"\0".join(self._witness.seen)),
            ("wires", bytes(self._wire)),
        ):
            found = canary.find(data)
            if found:
                hits[place] = sorted(f"{name} ({how})" for name, how in found)
        files = [path for path in self.directory.rglob("*") if path.is_file() and path.name not in PRIVATE]
        searched = sum(path.stat().st_size for path in files) + sum(map(len, self._witness.seen))
        return {
            "secrets": {name: len(values) for name, values in secrets.items()},
            "searched_bytes": searched + len(self._wire),
            "hits": hits,
            "num_hits": len(hits),
            "planted_leaks_found": self._find_planted_leaks(canary, secrets),
            "faults": self.num_faults,
            "findings": self.findings,
        }

    def _acquire(self) -> dict[str, Any]:
        folder = self.directory / "acquisition"
        make_private_directory(folder)
        trial = Trial(
            folder,
            self.parameters,
            self.seed,
            laboratory_options=("--success-probability", "0.1", "--chunk", "8", "--link", "ideal"),
            batch_rounds=30,
            arguments={"reload_interval": 0.2},
            common_plan={"log_level": "DEBUG"},
            use_proxy=True,
            environment=self._environment,
            on_running=lambda processes: self._witness.look([process.pid for process in processes.values()]),
            expected_tracebacks=True,
        )
        trial.run(self._starts)
        self.num_faults = trial.num_faults
        self.findings += trial.findings
        if "a crash on purpose" not in (folder / "bob.log").read_text(encoding="utf-8"):
            self.findings.append("the acquisition did not crash")
        self._wire += trial.link_bytes["alice"] + b"\0" + trial.link_bytes["bob"] + b"\0"
        self._records = trial.records
        secrets: dict[str, Any] = {"bob's settings": trial.records["bob"].setting}
        for role in ROLES:
            stream = SimulatedQuantis(seed=self.seed, stream=role).read(QRNG_BYTES)
            secrets[f"{role}'s random bits"] = np.unpackbits(np.frombuffer(stream, dtype=np.uint8))
            secrets[f"{role}'s outcomes"] = trial.records[role].outcome
        return secrets

    def _postprocess(self, outcome: str) -> dict[str, Any]:
        """Both parties, ending with a key, an abort or a crash; the initial key and what was generated."""
        folder = self.directory / outcome
        make_private_directory(folder)
        changes = {"omega_threshold": 0.99} if outcome == "abort" else {}
        parameters = self.parameters.model_copy(update=changes)
        parameters.save(folder / "parameters.toml")
        initial: list[bytes] = []

        def read_bytes(count: int) -> bytes:
            initial.append(os.urandom(count))
            return initial[-1]

        for role in ROLES:
            make_private_directory(folder / role)
            record = self._records[role]
            if changes:
                record = dataclasses.replace(record, parameters=parameters)
            record.write(folder / role / "record.h5")
        paths = [folder / role / "keys.sqlite" for role in ROLES]
        for store in KeyStore.create_pair(paths[0], paths[1], parameters, read_bytes):
            store.close()
        with reserved_ports(1) as port:
            self._run_parties(folder, outcome, port)
        secrets = {
            f"initial key ({outcome})": np.unpackbits(np.frombuffer(b"".join(initial), dtype=np.uint8))
        }
        if outcome == "key":
            with KeyStore.open(paths[0], parameters) as store:
                secrets["generated key"] = store.generated_key()
        return secrets

    def _run_parties(self, folder: Path, outcome: str, port: int) -> None:
        proxy = LinkProxy((LOOPBACK, port))
        ports = {"bob": ("--listen", port), "alice": ("--connect", proxy.address[1])}
        processes: dict[str, subprocess.Popen[bytes]] = {}
        for role, (option, number) in ports.items():
            files = folder / role
            command = [
                sys.executable,
                "-c",
                PARTY,
                outcome,
                "postprocess",
                role,
                "--json",
                "--timeout",
                str(PARTY_TIMEOUT_S),
            ]
            command += ["--parameters", str(folder / "parameters.toml"), "--record", str(files / "record.h5")]
            command += ["--keys", str(files / "keys.sqlite"), option, f"{LOOPBACK}:{number}"]
            with (folder / f"{role}.log").open("ab") as log:
                processes[role] = subprocess.Popen(
                    command, env=os.environ | self._environment, stdout=log, stderr=log
                )
        deadline = time.monotonic() + PARTY_TIMEOUT_S
        while any(process.poll() is None for process in processes.values()):
            self._witness.look([process.pid for process in processes.values()])
            if time.monotonic() > deadline:
                self.findings.append(f"post-processing ({outcome}) hung")
                for process in processes.values():
                    process.kill()
            time.sleep(0.005)
        proxy.close()
        self._wire += proxy.recorded["alice"] + b"\0" + proxy.recorded["bob"] + b"\0"
        codes = {process.returncode for process in processes.values()}
        if OUTCOMES[outcome] not in codes:
            self.findings.append(f"post-processing ({outcome}) ended with exit codes {sorted(codes)}")

    def _find_planted_leaks(self, canary: Canary, secrets: Mapping[str, Any]) -> bool:
        """Whether 80 symbols of every secret, written to a temporary file in three ways, are found."""
        planted = self.temporary / "leak"
        found = []
        for name, values in secrets.items():
            part = np.asarray(values)[-120:-40]
            texts = [json.dumps(part.tolist()).encode(), part.astype(np.uint8).tobytes()]
            if part.max() <= 1:
                texts.append(np.packbits(part.astype(np.uint8)).tobytes().hex().encode())
            for text in texts:
                planted.write_bytes(b"level=DEBUG value=" + text + b" end\n")
                hits = canary.find_in_folder(self.temporary)
                found.append(any(hit.startswith(name) for hit in hits.get("leak", [])))
        planted.unlink()
        return all(found)
