"""SIGKILL of key delivery services under load: python -m campaigns.delivery_kills --kills 50

Two connected services; at each node two applications request keys without pause and have the peer fetch
every other key at once, the rest in the end. At random moments one of the services is killed and started
again. In the end:

- no 64 bits occur twice among all keys that masters were given;
- every slave was given the bits that the master had, under the same id, and no key twice;
- a key that a master has and its slave cannot get is one whose fetch was itself cut by a kill;
- both ledgers agree on which bits are free.

Prints JSON, and exits with 1 where one of these does not hold. Not on Windows, which has no SIGKILL.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.delivery import make_stores, serve
from diqkd.console import print_json
from diqkd_postproc.delivery import trial
from diqkd_postproc.delivery.client import SaeClient, SaeProfile
from diqkd_postproc.delivery.configuration import load_configuration
from diqkd_postproc.delivery.refusals import Refusal
from diqkd_postproc.delivery.service import running_service
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.machine import describe_machine
from diqkd_postproc.protocol.errors import DiqkdError
from diqkd_postproc.protocol.roles import ROLES, other

KEY_BYTES = 16
NUM_BITS = 4_000_000


class Services:
    """The two service processes, on ports that stay."""

    def __init__(self, folder: Path) -> None:
        stores = [folder / f"{role}.sqlite" for role in ROLES]
        self.files = trial.write_trial(folder, stores, (0, 0), 0)
        self._context = multiprocessing.get_context("spawn")
        self._running: dict[str, tuple[Any, Connection]] = {}

    def start(self, role: str) -> None:
        here, there = self._context.Pipe()
        process = self._context.Process(target=serve, args=(self.files / f"{role}.toml", there), daemon=True)
        process.start()
        self._running[role] = process, here
        api, kme_address = here.recv()
        self._replace(f"{role}.toml", 'listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{api[1]}"')
        self._replace(f"sae-{role}.toml", "localhost:0", f"localhost:{api[1]}")
        if kme_address is not None:
            self._replace(f"{role}.toml", 'listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{kme_address[1]}"')
            self._replace("bob.toml", 'connect = "127.0.0.1:0"', f'connect = "127.0.0.1:{kme_address[1]}"')

    def _replace(self, name: str, old: str, new: str) -> None:
        path = self.files / name
        path.write_text(path.read_text().replace(old, new, 1))

    def kill(self, role: str) -> None:
        process, pipe = self._running.pop(role)
        process.kill()
        process.join()
        pipe.close()

    def wait_for_link(self) -> None:
        while True:
            for _, pipe in self._running.values():
                pipe.send("time")
            if all([pipe.recv()[1] for _, pipe in self._running.values()]):
                return
            time.sleep(0.05)

    def stop(self) -> None:
        for process, pipe in self._running.values():
            pipe.send("end")
            process.join(30)
            process.kill()


class Application(threading.Thread):
    """A master at one node, and its slave at the other."""

    def __init__(self, files: Path, role: str, ending: threading.Event) -> None:
        super().__init__(daemon=True)
        self._files = files
        self._roles = (role, other(role))
        self._ending = ending
        self.given: dict[str, bytes] = {}
        self.fetched: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.faults: list[str] = []

    def run(self) -> None:
        fetch = False
        while not self._ending.is_set():
            try:
                keys = self._client(0).new_keys(f"sae-{self._roles[1]}", 2, 8 * KEY_BYTES)
            except DiqkdError:
                self._ending.wait(0.05)
                continue
            self.given |= {key.key_id: key.key for key in keys}
            if fetch := not fetch:
                self.fetch([key.key_id for key in keys])

    def fetch(self, key_ids: list[str]) -> bool:
        try:
            keys = self._client(1).keys_with_ids(f"sae-{self._roles[0]}", key_ids)
        except Refusal as refusal:
            if "answers 400" in refusal.message:
                self.faults.append(f"not found: {key_ids}")
            self.cut |= set(key_ids)
            return False
        except DiqkdError:
            self.cut |= set(key_ids)
            return False
        self.faults += [f"fetched twice: {key.key_id}" for key in keys if key.key_id in self.fetched]
        self.fetched |= {key.key_id: key.key for key in keys}
        return True

    def _client(self, place: int) -> SaeClient:
        return SaeClient(SaeProfile.load(self._files / f"sae-{self._roles[place]}.toml"))


def fetch_the_rest(applications: list[Application]) -> int:
    """Fetch what is left; returns how many keys were lost to kills during their first fetch."""
    lost = 0
    for application in applications:
        tried = set(application.cut)
        for key_id in application.given.keys() - application.fetched.keys():
            faults = list(application.faults)
            if not application.fetch([key_id]) and key_id in tried:
                application.faults = faults  # it left the store as a service was killed
                lost += 1
    return lost


def free_ranges(store: Path) -> list[tuple[int, int]]:
    """The free ranges of a store's only generated key."""
    with KeyStore.open(store) as opened:
        rows = opened.generated._ledger.rows(
            "SELECT first_bit, num_bits FROM pieces WHERE state = 'available' ORDER BY first_bit"
        )
    return [(first, size) for first, size in rows]


async def settle(files: Path) -> None:
    """One more meeting of both services, in which what is left over is cancelled."""
    async with (
        running_service(load_configuration(files / "alice.toml")) as alice,
        running_service(load_configuration(files / "bob.toml")) as bob,
    ):
        while not (alice.kme_connection.is_up and bob.kme_connection.is_up):
            await asyncio.sleep(0.05)
        for service in (alice, bob):
            await service.pool.settled()


def run(kills: int, seed: int) -> dict[str, Any]:
    """The whole campaign."""
    choice = random.Random(seed)
    ending = threading.Event()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        os.environ["DIQKD_STATE_DIR"] = str(folder / "state")
        make_stores(folder, NUM_BITS)
        services = Services(folder)
        applications = [Application(services.files, role, ending) for role in ROLES for _ in range(2)]
        try:
            for role in ROLES:
                services.start(role)
            for application in applications:
                application.start()
            for number in range(kills):
                services.wait_for_link()
                time.sleep(choice.uniform(0.0, 1.5))
                victim = choice.choice(ROLES)
                services.kill(victim)
                services.start(victim)
                print(f"{number + 1} of {kills} kills", file=sys.stderr, flush=True)
            services.wait_for_link()
            ending.set()
            for application in applications:
                application.join()
            lost = fetch_the_rest(applications)
        finally:
            ending.set()
            services.stop()
        asyncio.run(settle(services.files))
        ranges = [free_ranges(folder / f"{role}.sqlite") for role in ROLES]
    given = {key_id: key for application in applications for key_id, key in application.given.items()}
    fetched = {key_id: key for application in applications for key_id, key in application.fetched.items()}
    windows = [key[at : at + 8] for key in given.values() for at in range(KEY_BYTES - 7)]
    return {
        "machine": describe_machine(),
        "kills": kills,
        "keys_given": len(given),
        "keys_fetched": len(fetched),
        "lost_as_their_fetch_was_cut": lost,
        "bits_issued_twice": len(windows) - len(set(windows)),
        "different_bits_under_one_id": sum(given[key_id] != key for key_id, key in fetched.items()),
        "faults": [fault for application in applications for fault in application.faults],
        "ledgers_agree": ranges[0] == ranges[1],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    report = run(arguments.kills, arguments.seed)
    print_json(report)
    wrong = report["bits_issued_twice"] or report["different_bits_under_one_id"] or report["faults"]
    sys.exit(1 if wrong or not report["ledgers_agree"] else 0)
