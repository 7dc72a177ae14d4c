"""The two halves of each generated key: this KME issues from its own, and delivers from the other's by id.

Alice's KME issues from the first half of a key, Bob's from the second, each from its beginning
(`piece.delivery_halves`). What an id names is delivered once at each node: there its bits leave the ledger
before they are returned, and nothing is delivered from bits that are not free. Every method runs in the
store's thread; the requests of a batch share one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from diqkd_postproc.authentication import one_time_tag, verify
from diqkd_postproc.delivery import key_ids
from diqkd_postproc.delivery.data_formats import Key
from diqkd_postproc.delivery.key_ids import PAD_BITS, PLACE_BITS, Place
from diqkd_postproc.delivery.refusals import BadRequest, Refusal, Unauthorized
from diqkd_postproc.key_store import GeneratedKeys, delivery_halves
from diqkd_postproc.protocol.errors import DiqkdError, InsufficientKeyError
from diqkd_postproc.protocol.roles import Role, other

NOT_FOUND = "one or more keys specified are not found on KME"
_PAD_BYTES = PAD_BITS // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """Keys for two SAEs, by their IDs: `number` new ones of `size` bits, or those of `key_ids`."""

    master: str
    slave: str
    number: int = 0
    size: int = 0
    key_ids: tuple[str, ...] = ()

    @property
    def num_keys(self) -> int:
        """How many keys it is about."""
        return self.number or len(self.key_ids)


class KeyHalves:
    """The generated keys of one node as its KME sees them."""

    def __init__(self, generated: GeneratedKeys, role: Role) -> None:
        self._generated = generated
        self._role = role
        self._seeds: dict[str, bytes] = {}

    def serve(self, requests: Sequence[KeyRequest]) -> list[tuple[Key, ...] | DiqkdError]:
        """Keys or refusal of each request: all of its keys or none. What is returned has left the store.

        A refusal is BadRequest for an id whose bits are not here (any more), Unauthorized for one whose tag
        is not that of these SAEs, InsufficientKeyError where too few bits are left. Errors of the store are
        raised, and then nothing has left it.
        """
        outcomes: list[tuple[Key, ...] | DiqkdError] = []
        with self._generated.change():
            for request in requests:
                try:
                    outcomes.append(self._collect(request) if request.key_ids else self._issue(request))
                except (Refusal, InsufficientKeyError) as error:
                    outcomes.append(error)
        return outcomes

    def counts(self, size: int) -> tuple[int, int]:
        """(keys of `size` bits that this KME can still issue, most that there were)."""
        piece = PAD_BITS + size
        most = sum((end - start) // piece for _, start, end in self._halves(self._role))
        return sum((end - start) // piece for _, start, end in self._free()), most

    def free_bits(self) -> int:
        """Free bits of the half that this KME issues from, pads included."""
        return sum(end - start for _, start, end in self._free())

    def _halves(self, role: Role) -> Iterator[tuple[str, int, int]]:
        for session_id, num_bits in self._generated.lengths():
            yield session_id, *delivery_halves(num_bits)[role]

    def _free(self) -> Iterator[tuple[str, int, int]]:
        """Free ranges of this KME's half, whole bytes, the oldest key first."""
        halves = {session_id: (start, end) for session_id, start, end in self._halves(self._role)}
        for session_id, first, stop in self._generated.free_ranges():
            start, end = halves[session_id]
            first, stop = -(-max(first, start) // 8) * 8, min(stop, end, 8 << PLACE_BITS)
            if first < stop:
                yield session_id, first, stop

    def _issue(self, request: KeyRequest) -> tuple[Key, ...]:
        keys: list[Key] = []
        for place, count in self._places(request):
            bits = self._generated.take(place.session_id, place.first_bit, count * place.num_bits)
            for index, piece in enumerate(np.packbits(bits.reshape(count, -1), axis=1)):
                one = Place(
                    role=self._role,
                    session_id=place.session_id,
                    first_bit=place.first_bit + index * place.num_bits,
                    size=place.size,
                )
                content = key_ids.tagged_content(one, request.master, request.slave)
                tag = one_time_tag(self._seed(place.session_id), piece[:_PAD_BYTES].tobytes(), content)
                keys.append(Key(key_id=key_ids.encode(one, tag), key=piece[_PAD_BYTES:].tobytes()))
        return tuple(keys)

    def _places(self, request: KeyRequest) -> list[tuple[Place, int]]:
        """Where the first of neighbouring new pieces is, and how many they are."""
        places, missing = [], request.number
        for session_id, start, end in self._free():
            place = Place(role=self._role, session_id=session_id, first_bit=start, size=request.size)
            if count := min(missing, (end - start) // place.num_bits):
                places.append((place, count))
                missing -= count
            if not missing:
                return places
        raise InsufficientKeyError(
            f"of {request.number} keys of {request.size} bits there are {request.number - missing} left in "
            "this KME's half of the generated keys; request less, or make a new key"
        )

    def _collect(self, request: KeyRequest) -> tuple[Key, ...]:
        halves = tuple(self._halves(other(self._role)))
        found = [self._find(key_id, request, halves) for key_id in request.key_ids]
        keys = []
        for key_id, place in zip(request.key_ids, found, strict=True):
            piece = self._generated.take(place.session_id, place.first_bit, place.num_bits)
            keys.append(Key(key_id=key_id, key=np.packbits(piece[PAD_BITS:]).tobytes()))
        return tuple(keys)

    def _find(self, key_id: str, request: KeyRequest, halves: Sequence[tuple[str, int, int]]) -> Place:
        """The piece of the other KME's half that an id names for these SAEs."""
        if (decoded := key_ids.decode(key_id)) is None:
            raise BadRequest(NOT_FOUND)
        name, first_bit, size, tag = decoded
        is_here = False
        for session_id, start, end in halves:
            place = Place(role=other(self._role), session_id=session_id, first_bit=first_bit, size=size)
            if key_ids.session_name(session_id) != name or not start <= first_bit <= end - place.num_bits:
                continue
            try:
                piece = self._generated.read_free(session_id, first_bit, place.num_bits)
            except InsufficientKeyError:
                continue
            is_here = True
            content = key_ids.tagged_content(place, request.master, request.slave)
            if verify(self._seed(session_id), np.packbits(piece[:PAD_BITS]).tobytes(), content, tag):
                return place
        raise Unauthorized("the ids were not issued for these SAEs") if is_here else BadRequest(NOT_FOUND)

    def _seed(self, session_id: str) -> bytes:
        if session_id not in self._seeds:
            self._seeds[session_id] = self._generated.delivery_seed(session_id)
        return self._seeds[session_id]
