"""A kill at every boundary between durable effects, on either side, and what becomes of the keys."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from diqkd_postproc.delivery.data_formats import Key
from diqkd_postproc.delivery.refusals import BadRequest
from diqkd_postproc.delivery.reservations import Owners
from tests.support.delivery_trial import ALICE_SAE, BOB_SAE, make_stores
from tests.support.joined_kmes import JoinedKme, ask, group, hello

OWNERS = {
    "alice": Owners(master=ALICE_SAE, slave=BOB_SAE),
    "bob": Owners(master=BOB_SAE, slave=ALICE_SAE),
}


class Killed(Exception):
    """The process ends here."""


class Effects:
    """Counts the durable effects of one run and ends it at one of them."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.count = 0

    def kill_around(self, function: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object, **named: object) -> object:
            self._point()
            result = function(*arguments, **named)
            self._point()
            return result

        return wrapped

    def _point(self) -> None:
        self.count += 1
        if self.count == self.last:
            raise Killed


CHANGES = ("reserve", "apply_reservations", "deliver", "discard")


class Run:
    """Keys asked for at one KME, fetched at the other, with a kill of one of them on the way."""

    def __init__(self, certificates: Path, folder: Path) -> None:
        self.certificates, self.folder = certificates, folder
        self.kmes = {role: JoinedKme(role, certificates, folder) for role in ("alice", "bob")}
        self.given: list[Key] = []
        self.fetched: list[Key] = []

    def restart(self, role: str) -> None:
        self.kmes[role].close()
        self.kmes[role] = JoinedKme(role, self.certificates, self.folder)
        hello(self.kmes["alice"], self.kmes["bob"])

    async def one_key(self, role: str) -> None:
        asking, fetching = self.kmes[role], self.kmes["bob" if role == "alice" else "alice"]
        pieces = asking.reserve(OWNERS[role])
        if await ask(asking, fetching, [group("keys", pieces)]) == ["done"]:
            keys = asking.reservations.deliver(pieces)
            self.given += keys
            self.fetched += fetching.reservations.collect(
                fetching.reservations.claim(OWNERS[role], [key.key_id for key in keys])
            )

    async def settle(self, role: str) -> None:
        asking, other = self.kmes[role], self.kmes["bob" if role == "alice" else "alice"]
        if left_over := asking.reservations.left_over():
            assert await ask(asking, other, [group("cancel", left_over)]) == ["done"]
            asking.reservations.give_up(left_over)
        assert asking.reservations.left_over() == ()

    def close(self) -> None:
        for kme in self.kmes.values():
            kme.close()


def free_ranges(kme: JoinedKme) -> Sequence[tuple[object, ...]]:
    return kme.store.generated._ledger.rows(
        "SELECT first_bit, num_bits FROM pieces WHERE state = 'available' ORDER BY first_bit"
    )


@pytest.mark.parametrize(("master", "victim"), [*itertools.product(("alice", "bob"), repeat=2)])
def test_a_kill_at_every_effect(certificates: Path, tmp_path: Path, master: str, victim: str) -> None:
    for last in itertools.count(1):
        folder = tmp_path / f"{last}"
        folder.mkdir(mode=0o700)
        make_stores(folder, 8000)
        run = Run(certificates, folder)
        hello(run.kmes["alice"], run.kmes["bob"])
        asyncio.run(run.one_key(master))
        effects = Effects(last)
        store = run.kmes[victim].store.generated
        for name in CHANGES:
            setattr(store, name, effects.kill_around(getattr(store, name)))
        killed = False
        try:
            asyncio.run(run.one_key(master))
        except Killed:
            killed = True
        run.restart(victim)
        for role in ("alice", "bob"):
            asyncio.run(run.settle(role))
        asyncio.run(run.one_key(master))

        assert len(run.given) == len({key.key_id for key in run.given}) >= 2
        by_id = {key.key_id: key.key for key in run.given}
        assert all(by_id[key.key_id] == key.key for key in run.fetched)
        assert len(set(by_id.values())) == len(by_id), "no bits under two ids"
        if not killed:
            assert len(run.given) == len(run.fetched) == 3
        slave = run.kmes["bob" if master == "alice" else "alice"]
        for key in run.fetched:
            with pytest.raises(BadRequest):
                slave.reservations.claim(OWNERS[master], [key.key_id])
        assert free_ranges(run.kmes["alice"]) == free_ranges(run.kmes["bob"]), "the pools agree again"
        run.close()
        if not killed:
            assert last > 3
            return
