"""One-time pads for the tags between the KMEs: ranges of the shared key, each used once.

Every exchange between the KMEs, a request and its answer, consumes two pads of 64 bits, one for the tag of
each (`authentication.one_time_tag`). The pads are pieces of the generated key like any delivered key, so that
the key store's ledger keeps them from being used twice: a *block* of pads is a piece that leaves the ledger
as a whole when its first pad is needed. What is left of an open block is lost with the process.

A block belongs to the KME that starts exchanges with it. Its first blocks lie behind the pieces that are set
aside in every key, where the key's length alone decides, hence alike on both nodes; later ones are agreed
upon in an exchange, as keys are. The hash seed of an exchange is the delivery seed of the session that its
block is from; it is reused, as Wegman and Carter allow.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from diqkd_postproc.authentication import HASH_BITS
from diqkd_postproc.key_store import RESERVED, GeneratedKeys, KeyReuseError, Piece
from diqkd_postproc.key_store.piece import DELIVERY_SEED, set_aside_label
from diqkd_postproc.protocol.errors import InsufficientKeyError
from diqkd_postproc.protocol.roles import ROLES

PURPOSE = "tag pads"
PAD_BYTES = HASH_BITS // 8
EXCHANGE_BITS = 2 * HASH_BITS
FIRST_BLOCKS = 2
BLOCKS_IN_RESERVE = 2
MAX_EXCHANGES_IN_BLOCK = 16
MAX_OFFERS = 16
_LABEL = re.compile(r"tag pads (alice|bob) [^\n]{1,120}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangePads:
    """Authentication of one exchange: hash seed and the pads of request and answer.

    block, exchange: public names of the pads. seed: HASH_SEED_BITS, reused within its session's key; pads:
    PAD_BYTES each, used once.
    """

    block: str
    exchange: int
    seed: bytes = field(repr=False)
    request_pad: bytes = field(repr=False)
    answer_pad: bytes = field(repr=False)


@dataclass(slots=True)
class _OpenBlock:
    """A block that has left the ledger; its unused pads are here only. seed: of all its tags."""

    seed: bytes = field(repr=False)
    pads: list[bytes] = field(repr=False)
    next_exchange: int = 0

    @property
    def num_exchanges(self) -> int:
        return len(self.pads) // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedKey:
    """A generated key that can be delivered from: it has a delivery seed and pads."""

    session_id: str
    num_bits: int


def _exchanges_per_block(key_bits: int) -> int:
    """Few in a short key, where a restart should not lose much; the same on both nodes."""
    return min(MAX_EXCHANGES_IN_BLOCK, max(2, key_bits // 4096))


def owner_role(label: str) -> str | None:
    """The role whose exchanges a block is for; None if the label is not that of a block."""
    match = _LABEL.fullmatch(label)
    return match[1] if match else None


class TagPads:
    """The pads of one KME, for the exchanges that it starts and those that it answers."""

    def __init__(self, generated: GeneratedKeys, role: str) -> None:
        self._generated = generated
        self._role = role
        self._open: dict[str, _OpenBlock] = {}

    def prepare(self) -> tuple[tuple[SharedKey, ...], tuple[str, ...]]:
        """Set aside the first blocks of every key that has none yet.

        Returns the keys that can be delivered from, and the sessions whose keys cannot: too short, or used
        otherwise.
        """
        ready, unfit = [], []
        for key in self._generated.held():
            seed = self._generated.find(set_aside_label(DELIVERY_SEED, key.session_id))
            blocks = [] if seed is None else _first_blocks(key.session_id, key.num_bits, seed)
            missing = [block for block in blocks if self._generated.find(block.label) is None]
            try:
                self._generated.apply_reservations(missing)
            except InsufficientKeyError:
                blocks = []
            if blocks:
                ready.append(SharedKey(session_id=key.session_id, num_bits=key.num_bits))
            else:
                unfit.append(key.session_id)
        return tuple(ready), tuple(unfit)

    def usable(self, role: str) -> tuple[str, ...]:
        """The blocks for the exchanges that `role` starts, of which this node still has pads."""
        unopened = [piece.label for piece in self._blocks_in_reserve(role)]
        opened = [
            label
            for label, block in self._open.items()
            if owner_role(label) == role and block.next_exchange < block.num_exchanges
        ]
        return (*opened, *unopened)

    def draw(self, usable_by_peer: Collection[str]) -> ExchangePads | None:
        """Pads for an exchange that this node starts, never drawn before; None if none are left.

        usable_by_peer: what the peer said of its `usable`; other blocks of ours are passed over.
        """
        for label in self.usable(self._role):
            if label in usable_by_peer:
                block = self._opened(label)
                if block is not None and block.next_exchange < block.num_exchanges:
                    pads = self._pads(label, block, block.next_exchange)
                    self.retire(pads)
                    return pads
        return None

    def expect(self, label: str, exchange: int) -> ExchangePads | None:
        """Pads for an exchange that the peer has started; None where they are gone or not ours to use.

        The pads are not spent yet: `retire` does that when the request has verified. Opening a block takes
        it out of the ledger.
        """
        if owner_role(label) in (None, self._role):
            return None
        block = self._opened(label)
        if block is None or not block.next_exchange <= exchange < block.num_exchanges:
            return None
        return self._pads(label, block, exchange)

    def retire(self, pads: ExchangePads) -> None:
        """These pads are used now: they, and those before in their block, are never drawn or expected.

        KeyReuseError where they were used already.
        """
        block = self._open.get(pads.block)
        if block is None or pads.exchange < block.next_exchange:
            raise KeyReuseError(f"the pads of exchange {pads.exchange} of {pads.block!r} are used already")
        block.next_exchange = pads.exchange + 1
        if block.next_exchange >= block.num_exchanges:
            del self._open[pads.block]

    def offers(self, usable_by_peer: Collection[str], sessions: Sequence[str]) -> tuple[Piece, ...]:
        """Blocks of ours to agree upon in the next exchange: a new one if few are left, and some of those
        that the peer has not got."""
        in_reserve = self._blocks_in_reserve(self._role)
        if len(in_reserve) < BLOCKS_IN_RESERVE:
            in_reserve += self.new_block(self._role, sessions)
        return tuple(piece for piece in in_reserve if piece.label not in usable_by_peer)[:MAX_OFFERS]

    def new_block(self, role: str, sessions: Sequence[str]) -> tuple[Piece, ...]:
        """Set aside one more block for the exchanges of `role`; none where no bits are left.

        One piece of EXCHANGE_BITS times a number that the common length of the sessions' keys decides; Bob
        takes it from the end of the keys.
        """
        total = sum(key.num_bits for key in self._generated.held() if key.session_id in sessions)
        try:
            return self._generated.reserve(
                EXCHANGE_BITS * _exchanges_per_block(total),
                [f"{PURPOSE} {role} {uuid.uuid4()}"],
                purpose=PURPOSE,
                sessions=sessions,
                from_end=self._role == ROLES[1],
            )
        except InsufficientKeyError:
            return ()  # the last blocks do as long as they last

    def discard(self, labels: Sequence[str]) -> None:
        """Give up blocks that the peer has refused."""
        self._generated.discard(labels, purpose=PURPOSE)

    def _blocks_in_reserve(self, role: str) -> tuple[Piece, ...]:
        return tuple(p for p in self._generated.reserved(PURPOSE) if owner_role(p.label) == role)

    def _opened(self, label: str) -> _OpenBlock | None:
        if label not in self._open:
            piece = self._generated.find(label)
            if piece is None or piece.purpose != PURPOSE or piece.state != RESERVED:
                return None
            seed = self._generated.delivery_seed(piece.session_id)
            (bits,) = self._generated.deliver([label], purpose=PURPOSE)
            pads = [bits[at : at + PAD_BYTES] for at in range(0, piece.num_bits // 8, PAD_BYTES)]
            self._open[label] = _OpenBlock(seed, pads)
        return self._open[label]

    def _pads(self, label: str, block: _OpenBlock, exchange: int) -> ExchangePads:
        return ExchangePads(
            block=label,
            exchange=exchange,
            seed=block.seed,
            request_pad=block.pads[2 * exchange],
            answer_pad=block.pads[2 * exchange + 1],
        )


def _first_blocks(session_id: str, key_bits: int, seed: Piece) -> list[Piece]:
    """The first blocks of both roles, by the length of the key alone; none where it is too short."""
    num_bits = EXCHANGE_BITS * _exchanges_per_block(key_bits)
    start = seed.end
    if start + len(ROLES) * FIRST_BLOCKS * num_bits > key_bits:
        return []
    names = [f"{PURPOSE} {role} {number} of {session_id}" for number in range(FIRST_BLOCKS) for role in ROLES]
    return [
        Piece(
            session_id=session_id,
            first_bit=start + place * num_bits,
            num_bits=num_bits,
            label=name,
            purpose=PURPOSE,
        )
        for place, name in enumerate(names)
    ]
