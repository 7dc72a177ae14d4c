"""Authenticated requests and answers between the KMEs, each under a tag whose pad serves one message.

What rests on the tags, for any adversary with any computer: that an SAE gets only bits that the other KME
has set aside for it, and that bits which one KME delivers were set aside by the other. The forgery
probability is below 2^-63 an attempt. What does not rest on them: that ids stay unknown to an eavesdropper
(TLS), and that messages arrive at all (nothing can).

A request that is still unanswered may be sent again, byte for byte; the answer to the last request is kept
for that. Pads leave the ledger before they are used, so that a restart can never tag a second message with
them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from diqkd_postproc.authentication import one_time_tag, verify
from diqkd_postproc.delivery.exchange_messages import (
    ANSWER,
    FAILURE,
    NO_TAG,
    REQUEST,
    Answer,
    Failure,
    Group,
    Outcome,
    Range,
    Request,
    decoded,
    encoded,
    frame,
    tagged_content,
)
from diqkd_postproc.delivery.refusals import Unavailable
from diqkd_postproc.delivery.store_thread import StoreThread
from diqkd_postproc.delivery.tag_pads import ExchangePads, TagPads, owner_role
from diqkd_postproc.key_store import Piece
from diqkd_postproc.protocol.errors import AuthenticationError, RemoteProtocolError, StorageError
from diqkd_postproc.protocol.roles import other

_log = logging.getLogger(__name__)
PADS_GONE, STORE_FAILED = "pads are gone", "the key store cannot be used"


class NoAnswer(Unavailable):
    """It is unknown what has become of a request.

    The peer may have set the bits aside or not, so that they can be neither delivered nor freed here before
    it has agreed to cancel them.
    """


@dataclass(slots=True)
class _Pending:
    """The exchange that this node has started and that is not answered yet."""

    pads: ExchangePads
    frame: bytes
    answer: asyncio.Future[list[Outcome]]


class AuthenticatedExchange:
    """The exchanges of one KME with its peer: those it starts, one at a time, and those it answers."""

    def __init__(
        self,
        me: str,
        peer: str,
        role: str,
        pads: TagPads,
        settle: Callable[[Sequence[Group]], list[Outcome]],
        store_thread: StoreThread,
    ) -> None:
        """settle: carries out the groups of the peer's request, in the store's thread, durably."""
        self._me, self._peer, self._role = me, peer, role
        self._pads = pads
        self._settle = settle
        self._store_thread = store_thread
        self._pending: _Pending | None = None
        self._last_answer: tuple[bytes, bytes] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._answering = asyncio.Lock()
        self.usable_by_peer: set[str] = set()
        """The blocks of this node's pads that the peer can use too."""

    async def request(
        self,
        groups: Sequence[Group],
        sessions: Sequence[str],
        send: Callable[[bytes], None],
        timeout_s: float,
        *,
        peer_needs_pads: bool = False,
    ) -> list[Outcome]:
        """Request the peer to settle groups; the outcome of each.

        sessions: whose keys both nodes hold; blocks of pads are taken from them in passing. Raises
        NoAnswer where none came in time; it is then unknown what the peer has done.
        """
        async with self._one_at_a_time:
            pads, offers = await self._store_thread.run(self._prepare, sessions, peer_needs_pads)
            if pads is None:
                raise Unavailable("no bits are left to authenticate the exchanges between the KMEs")
            all_groups = [*groups, *(Group(kind="pads", ranges=[Range.of(piece)]) for piece in offers)]
            body = encoded(Request(block=pads.block, exchange=pads.exchange, groups=all_groups))
            tag = one_time_tag(
                pads.seed, pads.request_pad, tagged_content(REQUEST, self._me, self._peer, body)
            )
            answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
            self._pending = _Pending(pads, frame(REQUEST, tag, body), answer)
            try:
                send(self._pending.frame)
                async with asyncio.timeout(timeout_s):
                    outcomes = await answer
            except TimeoutError:
                raise NoAnswer("the other KME does not answer") from None
            finally:
                self._pending = None
            if len(outcomes) != len(all_groups):
                raise NoAnswer("the other KME answered another number of groups than were requested")
            await self._note_offers(offers, outcomes[len(groups) :])
            return outcomes[: len(groups)]

    def unanswered(self) -> bytes | None:
        """The pending request, to be sent again on a new connection."""
        return self._pending.frame if self._pending else None

    def _prepare(
        self, sessions: Sequence[str], peer_needs_pads: bool
    ) -> tuple[ExchangePads | None, tuple[Piece, ...]]:
        offers = self._pads.offers(self.usable_by_peer, sessions)
        if peer_needs_pads:
            offers += self._pads.new_block(other(self._role), sessions)
        return self._pads.draw(self.usable_by_peer), offers

    async def _note_offers(self, offers: Sequence[Piece], outcomes: Sequence[Outcome]) -> None:
        refused = [p.label for p, outcome in zip(offers, outcomes, strict=True) if outcome != "done"]
        self.usable_by_peer |= {piece.label for piece in offers} - set(refused)
        if refused:
            await self._store_thread.run(self._pads.discard, refused)

    async def answer(self, tag: bytes, body: bytes) -> bytes:
        """The frame to send back for a request of the peer; AuthenticationError for a forged one.

        One at a time: a request that comes again on a new connection, while it is still being settled for
        the old one, waits for that answer. Its pads must not tag a second one.
        """
        async with self._answering:
            return await self._answer(tag, body)

    async def _answer(self, tag: bytes, body: bytes) -> bytes:
        if self._last_answer is not None and self._last_answer[0] == tag + body:
            return self._last_answer[1]
        request = decoded(Request, body)
        pads = await self._store_thread.run(self._pads.expect, request.block, request.exchange)
        if pads is None:
            return self._failure(request, PADS_GONE)
        content = tagged_content(REQUEST, self._peer, self._me, body)
        if not verify(pads.seed, pads.request_pad, content, tag):
            raise AuthenticationError("the tag of a request of the other KME does not verify")
        try:
            outcomes = await self._store_thread.run(self._settle_once, pads, request.groups)
        except StorageError as error:
            _log.error("cannot serve the other KME: %s", error)
            return self._failure(request, STORE_FAILED)
        for group, outcome in zip(request.groups, outcomes, strict=True):
            if group.kind == "pads" and outcome == "done":
                labels = {item.label for item in group.ranges}
                self.usable_by_peer |= {label for label in labels if owner_role(label) == self._role}
        answer = encoded(Answer(block=request.block, exchange=request.exchange, outcomes=outcomes))
        content = tagged_content(ANSWER, self._me, self._peer, answer)
        data = frame(ANSWER, one_time_tag(pads.seed, pads.answer_pad, content), answer)
        self._last_answer = (tag + body, data)
        return data

    def _settle_once(self, pads: ExchangePads, groups: Sequence[Group]) -> list[Outcome]:
        self._pads.retire(pads)
        return self._settle(groups)

    @staticmethod
    def _failure(request: Request, reason: str) -> bytes:
        failure = Failure(block=request.block, exchange=request.exchange, reason=reason)
        return frame(FAILURE, NO_TAG, encoded(failure))

    def receive_answer(self, tag: bytes, body: bytes) -> None:
        """Verify an answer of the peer and complete the pending request with its outcomes.

        tag: (TAG_BYTES). An answer to another exchange than the pending one is ignored. Raises
        AuthenticationError for a tag that does not verify, RemoteProtocolError for a malformed body.
        """
        answer = decoded(Answer, body)
        pending = self._pending_for(answer.block, answer.exchange)
        if pending is None:
            return
        content = tagged_content(ANSWER, self._peer, self._me, body)
        if not verify(pending.pads.seed, pending.pads.answer_pad, content, tag):
            raise AuthenticationError("the tag of an answer of the other KME does not verify")
        pending.answer.set_result(list(answer.outcomes))

    def receive_failure(self, tag: bytes, body: bytes) -> None:
        """End the pending request with NoAnswer, as the peer could not process it.

        Untagged: forged, it can only make this node give up. Raises RemoteProtocolError for one that carries
        a tag.
        """
        if tag != NO_TAG:
            raise RemoteProtocolError("a failure carries no tag")
        failure = decoded(Failure, body)
        pending = self._pending_for(failure.block, failure.exchange)
        if pending is None:
            return
        if failure.reason == PADS_GONE:
            self.usable_by_peer.discard(failure.block)
        pending.answer.set_exception(NoAnswer("the other KME could not serve the request"))

    def _pending_for(self, block: str, exchange: int) -> _Pending | None:
        pending = self._pending
        if pending is None or pending.answer.done():
            return None
        return pending if (pending.pads.block, pending.pads.exchange) == (block, exchange) else None
