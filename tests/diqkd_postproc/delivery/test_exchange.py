"""The tagged exchange under an adversary who owns the wire, TLS notwithstanding."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from diqkd_postproc.authentication import HASH_BITS
from diqkd_postproc.delivery.exchange_messages import LENGTH_BYTES
from diqkd_postproc.delivery.refusals import Unavailable
from diqkd_postproc.delivery.reservations import Owners
from diqkd_postproc.delivery.tag_pads import MAX_OFFERS, PURPOSE
from diqkd_postproc.key_store import DELIVERED, KeyReuseError
from diqkd_postproc.protocol.errors import AuthenticationError, RemoteProtocolError
from tests.support.delivery_trial import ALICE_SAE, BOB_SAE, BOB_SAE_2, make_stores
from tests.support.joined_kmes import SESSIONS, JoinedKme, ask, group, hello, parts

OWNERS = Owners(master=ALICE_SAE, slave=BOB_SAE)


@pytest.fixture
def pair(certificates: Path, folder: Path) -> Iterator[tuple[JoinedKme, JoinedKme]]:
    make_stores(folder, 30_000)
    alice, bob = JoinedKme("alice", certificates, folder), JoinedKme("bob", certificates, folder)
    hello(alice, bob)
    yield alice, bob
    alice.close()
    bob.close()


def delivery_pieces(kme: JoinedKme) -> set[tuple[str, int]]:
    generated = kme.store.generated
    return {
        (piece.label, piece.first_bit)
        for role in ("alice", "bob")
        for piece in generated.reserved(f"delivery from {role}")
    }


def test_both_hold_what_was_agreed(pair: tuple[JoinedKme, JoinedKme]) -> None:
    alice, bob = pair
    pieces = alice.reserve(OWNERS, 3)
    assert asyncio.run(ask(alice, bob, [group("keys", pieces)])) == ["done"]
    assert delivery_pieces(alice) == delivery_pieces(bob) != set()
    keys = alice.reservations.deliver(pieces)
    labels = bob.reservations.claim(OWNERS, [key.key_id for key in keys])
    assert bob.reservations.collect(labels) == keys


def test_every_changed_byte_is_rejected(pair: tuple[JoinedKme, JoinedKme]) -> None:
    """Each byte of request and answer, one bit of it flipped at random: nothing is done, nobody is fooled."""
    alice, bob = pair
    random_bits = random.Random(5)
    seen: list[bytes] = []

    async def scenario() -> None:
        pieces = alice.reserve(OWNERS)
        sending = asyncio.create_task(
            alice.exchange.request([group("keys", pieces)], SESSIONS, seen.append, 60.0)
        )
        while not seen:
            await asyncio.sleep(0)
        (request,) = seen
        before = delivery_pieces(bob)
        for at in range(LENGTH_BYTES + 1, len(request)):
            changed = bytearray(request)
            changed[at] ^= 1 << random_bits.randrange(8)
            _, tag, body = parts(bytes(changed))
            try:
                answer = await bob.exchange.answer(tag, body)
            except (AuthenticationError, RemoteProtocolError):
                continue
            assert answer[LENGTH_BYTES : LENGTH_BYTES + 1] == b"F", "the pads' name was changed: not known"
        assert delivery_pieces(bob) == before
        _, tag, body = parts(request)
        answer = await bob.exchange.answer(tag, body)
        assert delivery_pieces(bob) == before | {(pieces[0].label, pieces[0].first_bit)}
        for at in range(LENGTH_BYTES + 1, len(answer)):
            changed = bytearray(answer)
            changed[at] ^= 1 << random_bits.randrange(8)
            _, tag, body = parts(bytes(changed))
            try:
                alice.exchange.receive_answer(tag, body)
            except (AuthenticationError, RemoteProtocolError):
                continue
            assert not sending.done(), "an answer for other pads is nobody's"
        assert alice.exchange.unanswered() == request
        alice.exchange.receive_answer(*parts(answer)[1:])
        assert await sending == ["done"]

    asyncio.run(scenario())


def test_repeated_moved_and_reflected_requests(pair: tuple[JoinedKme, JoinedKme]) -> None:
    alice, bob = pair
    requests: list[bytes] = []
    answers: list[bytes] = []

    def keep(data: bytes) -> list[bytes]:
        requests.append(data)
        return [data, data]

    def keep_answer(data: bytes) -> list[bytes]:
        answers.append(data)
        return [data]

    async def scenario() -> None:
        for _ in range(2):
            assert await ask(alice, bob, [group("keys", alice.reserve(OWNERS))], keep, keep_answer) == [
                "done"
            ]
        assert answers[0] == answers[1] and answers[2] == answers[3] != answers[0]
        held = delivery_pieces(bob)
        _, tag, body = parts(requests[0])
        failure = await bob.exchange.answer(tag, body)
        assert parts(failure)[0] == b"F", "an old request is not looked at"
        _, _, body_2 = parts(requests[1])
        moved = body.replace(b'"exchange":0', b'"exchange":2')
        assert moved != body
        for content in (moved, body_2.replace(b'"exchange":1', b'"exchange":2')):
            with pytest.raises(AuthenticationError):
                await bob.exchange.answer(tag, content)
        reflected = await alice.exchange.answer(*parts(requests[1])[1:])
        assert parts(reflected)[0] == b"F"
        assert delivery_pieces(bob) == held
        sending = asyncio.create_task(alice.exchange.request([], SESSIONS, requests.append, 60.0))
        while len(requests) < 3:
            await asyncio.sleep(0)
        for answer in answers:
            alice.exchange.receive_answer(*parts(answer)[1:])
        assert not sending.done()
        sending.cancel()

    asyncio.run(scenario())


def test_a_lost_answer_is_sent_again_and_done_once(pair: tuple[JoinedKme, JoinedKme]) -> None:
    alice, bob = pair
    pieces = alice.reserve(OWNERS)

    async def scenario() -> None:
        sent: list[bytes] = []
        sending = asyncio.create_task(
            alice.exchange.request([group("keys", pieces)], SESSIONS, sent.append, 60.0)
        )
        while not sent:
            await asyncio.sleep(0)
        lost = await bob.exchange.answer(*parts(sent[0])[1:])
        again = alice.exchange.unanswered()
        assert again == sent[0]
        answer = await bob.exchange.answer(*parts(again)[1:])
        assert answer == lost
        alice.exchange.receive_answer(*parts(answer)[1:])
        assert await sending == ["done"]
        assert alice.exchange.unanswered() is None

    asyncio.run(scenario())


def test_a_request_that_comes_again_while_it_is_settled_gets_the_one_answer(
    pair: tuple[JoinedKme, JoinedKme],
) -> None:
    """As after a reset of the connection: whoever can reset it would else see two tags under one pad."""
    alice, bob = pair
    settled: list[int] = []
    settle = bob.reservations.settle
    bob.exchange._settle = lambda groups: settled.append(len(groups)) or settle(groups)  # type: ignore[func-returns-value]

    async def scenario() -> None:
        sent: list[bytes] = []
        pieces = alice.reserve(OWNERS)
        sending = asyncio.create_task(
            alice.exchange.request([group("keys", pieces)], SESSIONS, sent.append, 60.0)
        )
        while not sent:
            await asyncio.sleep(0)
        _, tag, body = parts(sent[0])
        first, second = await asyncio.gather(bob.exchange.answer(tag, body), bob.exchange.answer(tag, body))
        assert first == second and len(settled) == 1
        alice.exchange.receive_answer(*parts(first)[1:])
        assert await sending == ["done"]

    asyncio.run(scenario())


def test_pads_that_are_used_are_refused(pair: tuple[JoinedKme, JoinedKme]) -> None:
    bob = pair[1]
    (block,) = bob.pads.usable("alice")[:1]
    pads = bob.pads.expect(block, 0)
    assert pads is not None
    bob.pads.retire(pads)
    with pytest.raises(KeyReuseError, match="used already"):
        bob.pads.retire(pads)


def test_offers_are_few_however_many_blocks_the_peer_has_not_got(pair: tuple[JoinedKme, JoinedKme]) -> None:
    alice, _ = pair
    for _ in range(MAX_OFFERS + 1):
        assert alice.pads.new_block("alice", SESSIONS)
    assert len(alice.pads.offers((), SESSIONS)) == MAX_OFFERS


def test_no_answer_is_unavailable(pair: tuple[JoinedKme, JoinedKme]) -> None:
    alice, bob = pair
    with pytest.raises(Unavailable, match="does not answer"):
        asyncio.run(ask(alice, bob, [], request_wire=lambda _: [], timeout_s=0.01))


def test_pads_are_never_used_twice_and_renewed(pair: tuple[JoinedKme, JoinedKme]) -> None:
    alice, bob = pair
    used: list[tuple[str, int]] = []
    draw = alice.pads.draw

    def drawn(usable: set[str]) -> object:
        pads = draw(usable)
        assert pads is not None
        used.append((pads.block, pads.exchange))
        return pads

    alice.pads.draw = drawn  # type: ignore[assignment,method-assign]
    pads_seen: set[bytes] = set()
    expect = bob.pads.expect

    def expected(label: str, exchange: int) -> object:
        pads = expect(label, exchange)
        assert pads is not None
        pads_seen.update((pads.request_pad, pads.answer_pad))
        return pads

    bob.pads.expect = expected  # type: ignore[assignment,method-assign]

    async def scenario() -> None:
        for _ in range(60):
            assert await ask(alice, bob, []) == []

    asyncio.run(scenario())
    assert len(set(used)) == 60 and len(pads_seen) == 120
    assert len({block for block, _ in used}) > 4, "blocks beyond the first ones were agreed upon"
    spent = sum(
        piece.num_bits
        for block in {block for block, _ in used}
        if (piece := alice.store.generated.find(block)) is not None and piece.state == DELIVERED
    )
    assert spent >= 60 * 2 * HASH_BITS


def test_a_restart_burns_open_blocks_on_either_side(
    pair: tuple[JoinedKme, JoinedKme], certificates: Path, folder: Path
) -> None:
    alice, bob = pair
    asyncio.run(ask(alice, bob, []))
    (opened,) = [label for label in alice.pads.usable("alice") if label.startswith(f"{PURPOSE} alice 0")]
    for role, other in (("alice", bob), ("bob", alice)):
        again = JoinedKme(role, certificates, folder)
        assert opened not in again.pads.usable("alice")
        hello(again, other)
        asyncio.run(ask(again, other, []))
        again.close()


def test_all_blocks_burnt_are_replaced_by_the_peer(
    pair: tuple[JoinedKme, JoinedKme], certificates: Path, folder: Path
) -> None:
    alice, bob = pair
    for label in alice.pads.usable("alice"):
        assert alice.pads._opened(label) is not None
    again = JoinedKme("alice", certificates, folder)
    hello(again, bob)
    assert again.pads.usable("alice") == ()
    with pytest.raises(Unavailable, match="no bits are left to authenticate"):
        asyncio.run(again.exchange.request([], (), lambda _: None, 1.0))

    async def scenario() -> None:
        sent: list[bytes] = []
        sending = asyncio.create_task(
            bob.exchange.request([], SESSIONS, sent.append, 60.0, peer_needs_pads=True)
        )
        while not sent:
            await asyncio.sleep(0)
        bob.exchange.receive_answer(*parts(await again.exchange.answer(*parts(sent[0])[1:]))[1:])
        await sending
        assert len(again.pads.usable("alice")) == 1
        assert await ask(again, bob, []) == []

    asyncio.run(scenario())
    again.close()


def test_the_peer_is_not_asked_for_what_its_configuration_forbids(
    pair: tuple[JoinedKme, JoinedKme],
) -> None:
    alice, bob = pair
    wrong = [
        Owners(master=ALICE_SAE, slave="unknown"),
        Owners(master=BOB_SAE, slave=BOB_SAE_2),
        Owners(master=BOB_SAE, slave=ALICE_SAE),
    ]

    async def scenario() -> None:
        for owners in wrong:
            groups = [group("keys", alice.reserve(owners)), group("keys", alice.reserve(OWNERS))]
            assert await ask(alice, bob, groups) == ["forbidden", "done"]
        odd = alice.reserve(OWNERS, size=129)
        pads = alice.store.generated.reserve(129, ["tag pads alice x"], purpose=PURPOSE)
        other = alice.store.generated.reserve(128, ["pads 9 of session-1"], purpose=PURPOSE)
        groups = [group("keys", odd), group("pads", pads), group("pads", other), group("cancel", other)]
        assert await ask(alice, bob, groups) == ["forbidden"] * 4

    asyncio.run(scenario())


def test_a_range_that_the_peer_has_issued_is_refused(pair: tuple[JoinedKme, JoinedKme]) -> None:
    """What a restored backup of Alice's store would ask for."""
    alice, bob = pair
    first = alice.reserve(OWNERS)
    assert asyncio.run(ask(alice, bob, [group("keys", first)])) == ["done"]
    alice.store.generated.free([first[0].label], purpose="delivery from alice")
    again = alice.reserve(OWNERS)
    assert again[0].first_bit == first[0].first_bit
    fresh = alice.reserve(OWNERS)
    assert asyncio.run(ask(alice, bob, [group("keys", again), group("keys", fresh)])) == ["taken", "done"]
