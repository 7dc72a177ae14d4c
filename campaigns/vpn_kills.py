"""SIGKILL of delivery services and tunnel agents while a tunnel is rekeyed: python -m campaigns.vpn_kills

Two services and two agents (`diqkd vpn`) as processes; at random moments one of the four is killed and
started again, until the leader has installed `--rekeys` keys. In place of a tunnel, `tee` appends every key
that an end installs to that end's file. In the end:

- no key was installed twice at an end;
- the leader's keys are among the follower's, in the same order: what an end had, the other had then or before
  it went on to the next, so that both had the same key or none in common.

Prints JSON, and exits with 1 where one of these does not hold. Needs `tee` and SIGKILL: not on Windows.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.delivery import make_stores
from campaigns.delivery_kills import Services
from diqkd.console import print_json
from diqkd_postproc.machine import describe_machine
from diqkd_postproc.protocol.roles import ROLES, other

NUM_BITS = 1_000_000
LEADER, FOLLOWER = ROLES


class Agents:
    """The two agents; the follower keeps the port that it got first."""

    def __init__(self, files: Path) -> None:
        self._files = files
        self._address = "127.0.0.1:0"
        self._running: dict[str, subprocess.Popen[str]] = {}

    def installed(self, role: str) -> list[str]:
        """The keys that an end has installed, in order; a line that is being written is none."""
        path = self._files / f"installed-{role}"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def start(self, role: str) -> None:
        side = ["--listen" if role == FOLLOWER else "--connect", self._address]
        command = [sys.executable, "-m", "diqkd", "vpn", "--as", str(self._files / f"sae-{role}.toml")]
        command += ["--peer", f"sae-{other(role)}", *side, "--every", "1"]
        command += ["--command", f"tee -a {self._files / f'installed-{role}'}"]
        log = (self._files / f"agent-{role}.log").open("a")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        log.close()
        self._running[role] = process
        if role == FOLLOWER:
            assert process.stdout is not None
            self._address = process.stdout.readline().split()[-1]

    def kill(self, role: str) -> None:
        process = self._running.pop(role)
        process.kill()
        process.communicate()

    def stop(self) -> None:
        for role in list(self._running):
            self.kill(role)


def run(rekeys: int, seed: int) -> dict[str, Any]:
    """The whole campaign."""
    choice = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        os.environ["DIQKD_STATE_DIR"] = str(folder / "state")
        make_stores(folder, NUM_BITS)
        services = Services(folder)
        agents = Agents(services.files)
        kills = {f"{what} of {role}": 0 for what in ("service", "agent") for role in ROLES}
        try:
            for role in ROLES:
                services.start(role)
            for role in (FOLLOWER, LEADER):
                agents.start(role)
            while len(agents.installed(LEADER)) < rekeys:
                time.sleep(choice.uniform(0.0, 8.0))
                victim = choice.choice(list(kills))
                processes = services if victim.startswith("service") else agents
                processes.kill(victim.split()[-1])
                processes.start(victim.split()[-1])
                kills[victim] += 1
                print(f"{len(agents.installed(LEADER))} of {rekeys} rekeys", file=sys.stderr, flush=True)
        finally:
            agents.stop()
            services.stop()
        leader, follower = (agents.installed(role) for role in (LEADER, FOLLOWER))
    places = {key: place for place, key in enumerate(follower)}
    order = [places.get(key, -1) for key in leader]
    return {
        "machine": describe_machine(),
        "kills": kills,
        "keys_at_leader": len(leader),
        "keys_at_follower": len(follower),
        "installed_twice": len(leader) + len(follower) - len(set(leader)) - len(set(follower)),
        "only_at_leader": order.count(-1),
        "in_the_same_order": order == sorted(order),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rekeys", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    report = run(arguments.rekeys, arguments.seed)
    print_json(report)
    wrong = report["installed_twice"] or report["only_at_leader"] or not report["in_the_same_order"]
    sys.exit(1 if wrong else 0)
