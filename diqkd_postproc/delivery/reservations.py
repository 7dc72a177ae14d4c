"""Reservations of pieces of the shared key, by this node for its clients and at the peer's request.

The key store's ledger is the only record. A piece's label is the key_ID with the SAE IDs of master and slave,
its purpose names the KME that reserved it: so one transaction makes id, bits and rightful owners durable
together, and after a restart the ledger records which keys wait for an SAE of this node, and which
reservations of its own came to nothing. Every method runs in the store's thread.

Alice reserves from the beginning of the keys, Bob from their end, so that both can serve at once. Where they
meet, each refuses what the other reserved over its own, and both give up the bits.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from diqkd_postproc.delivery import tag_pads
from diqkd_postproc.delivery.configuration import DeliveryConfiguration
from diqkd_postproc.delivery.data_formats import Key
from diqkd_postproc.delivery.exchange_messages import Group, Outcome, Range
from diqkd_postproc.delivery.refusals import BadRequest, Unauthorized
from diqkd_postproc.key_store import RESERVED, GeneratedKeys, Piece
from diqkd_postproc.protocol.errors import InsufficientKeyError
from diqkd_postproc.protocol.roles import other

NOT_FOUND = "one or more keys specified are not found on KME"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """The two SAEs that a key is for.

    Both are SAE IDs; `master` requested the key at its KME, `slave` fetches it at the other.
    """

    master: str
    slave: str

    def label(self, key_id: str) -> str:
        """The name of the piece; SAE IDs hold no spaces."""
        return f"{key_id} {self.master} {self.slave}"


def _purpose_of(role: str) -> str:
    """The purpose of pieces that the KME of this role has reserved for its masters."""
    return f"delivery from {role}"


class Reservations:
    """The pieces that one KME has reserved for its masters, and holds for its slaves."""

    def __init__(self, generated: GeneratedKeys, configuration: DeliveryConfiguration) -> None:
        self._generated = generated
        self._configuration = configuration
        role = configuration.kme.role
        self._mine, self._theirs = _purpose_of(role), _purpose_of(other(role))
        self._from_end = role == "bob"
        self._held = {_key_id_of(p.label): p.label for p in generated.reserved(self._theirs)}

    def left_over(self) -> tuple[Piece, ...]:
        """Own reservations that nobody got, from before a restart or a lost answer: to be cancelled."""
        return self._generated.reserved(self._mine)

    def reserve(self, owners: Sequence[Owners], size: int, sessions: Sequence[str]) -> tuple[Piece, ...]:
        """Set aside a piece of `size` bits for each of `owners` under a new id; all or none.

        sessions: names of the keys that the peer has too. Raises InsufficientKeyError where their free bits
        do not suffice.
        """
        labels = [pair.label(str(uuid.uuid4())) for pair in owners]
        return self._generated.reserve(
            size, labels, purpose=self._mine, sessions=sessions, from_end=self._from_end
        )

    def deliver(self, pieces: Sequence[Piece]) -> tuple[Key, ...]:
        """The bits of own reservations that the peer has agreed to; gone from the store."""
        bits = self._generated.deliver([piece.label for piece in pieces], purpose=self._mine)
        return tuple(
            Key(key_id=_key_id_of(piece.label), key=key) for piece, key in zip(pieces, bits, strict=True)
        )

    def give_up(self, pieces: Sequence[Piece]) -> None:
        """Zero own reservations, after the peer has given them up or refused them."""
        labels = [p.label for p in pieces if self._is_reserved(p.label, self._mine)]
        self._generated.discard(labels, purpose=self._mine)

    def take_back(self, pieces: Sequence[Piece]) -> None:
        """Free own reservations again, which the peer has never set aside."""
        self._generated.free([piece.label for piece in pieces], purpose=self._mine)

    def claim(self, owners: Owners, key_ids: Sequence[str]) -> tuple[str, ...]:
        """Labels of the keys that wait for a slave here, which no other request can claim now.

        BadRequest where one is not here (or not any more), Unauthorized where one is for other SAEs.
        """
        labels = [self._held.get(key_id) for key_id in key_ids]
        if None in labels:
            raise BadRequest(NOT_FOUND)
        expected = [owners.label(key_id) for key_id in key_ids]
        if labels != expected:
            raise Unauthorized("the keys were made for other SAEs")
        for key_id in key_ids:
            del self._held[key_id]
        return tuple(expected)

    def collect(self, labels: Sequence[str]) -> tuple[Key, ...]:
        """The bits of claimed keys; gone from the store.

        Raises InsufficientKeyError where one has left the store meanwhile; then none is delivered.
        """
        bits = self._generated.deliver(labels, purpose=self._theirs)
        return tuple(Key(key_id=_key_id_of(n), key=key) for n, key in zip(labels, bits, strict=True))

    def unclaim(self, labels: Sequence[str]) -> None:
        """Let claimed keys be claimed again, as far as they were not collected."""
        self._held |= {_key_id_of(label): label for label in labels if self._is_reserved(label, self._theirs)}

    def settle(self, groups: Sequence[Group]) -> list[Outcome]:
        """Carry out what the peer requests; what is done is durable.

        A group that this node's configuration does not allow, or whose bits are not free, is refused whole.
        """
        wanted = {place: self._allowed(group) for place, group in enumerate(groups)}
        reserve = {
            place: pieces for place, pieces in wanted.items() if pieces and groups[place].kind != "cancel"
        }
        outcomes: list[Outcome] = ["taken" if wanted[place] else "forbidden" for place in range(len(groups))]
        for place in self._applied(reserve):
            outcomes[place] = "done"
            if groups[place].kind == "keys":
                self._held |= {_key_id_of(piece.label): piece.label for piece in reserve[place]}
        for place, group in enumerate(groups):
            if group.kind == "cancel" and wanted[place]:
                self._cancel(wanted[place])
                outcomes[place] = "done"
        return outcomes

    def _applied(self, reserve: dict[int, list[Piece]]) -> list[int]:
        """Which groups could be set aside; in one transaction where all can."""
        try:
            self._generated.apply_reservations([piece for pieces in reserve.values() for piece in pieces])
            return list(reserve)
        except InsufficientKeyError:
            if len(reserve) == 1:
                return []
        return [place for place, pieces in reserve.items() if self._applied({place: pieces})]

    def _cancel(self, pieces: Sequence[Piece]) -> None:
        """Give up what the peer reserved, even where its reservation never arrived here."""
        for piece in pieces:
            if self._held.get(_key_id_of(piece.label)) == piece.label:
                del self._held[_key_id_of(piece.label)]
            if self._generated.find(piece.label) is None:
                self._applied({0: [piece]})
            if self._is_reserved(piece.label, self._theirs):
                self._generated.discard([piece.label], purpose=self._theirs)

    def _allowed(self, group: Group) -> list[Piece]:
        """The pieces of a group; none unless all of them may be requested."""
        if group.kind == "pads":
            fits = all(
                tag_pads.owner_role(item.label) and item.bits % tag_pads.EXCHANGE_BITS == 0
                for item in group.ranges
            )
            return [item.piece(tag_pads.PURPOSE) for item in group.ranges] if fits else []
        is_new = group.kind == "keys"
        fits = all(self._is_for_us(item, is_new) for item in group.ranges)
        return [item.piece(self._theirs) for item in group.ranges] if fits else []

    def _is_for_us(self, item: Range, is_new: bool) -> bool:
        """Whether a range is a key that this configuration lets a slave of ours have."""
        parts = item.label.split(" ")
        if len(parts) != 3 or not _is_key_id(parts[0]) or item.bits % 8:
            return False
        if not is_new:
            return True
        known = self._held.get(parts[0], item.label) == item.label
        is_local = self._configuration.kme_of(parts[2]) == self._configuration.kme.id
        return known and is_local and self._configuration.may_share(parts[1], parts[2])

    def _is_reserved(self, label: str, purpose: str) -> bool:
        piece = self._generated.find(label)
        return piece is not None and (piece.state, piece.purpose) == (RESERVED, purpose)


def _key_id_of(label: str) -> str:
    """The key_ID in a piece's label."""
    return label.partition(" ")[0]


def _is_key_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
