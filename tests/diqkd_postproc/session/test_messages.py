"""The wire: one encoding a message, bounds before bytes, and nothing but typed errors for garbage."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diqkd_postproc.protocol.errors import LocalProtocolError, ParameterError, RemoteProtocolError
from diqkd_postproc.session.framing import (
    MAGIC,
    PROTOCOL_VERSION,
    FrameReader,
    VersionMismatchError,
    checksum,
    decode_frame,
    encode_frame,
)
from diqkd_postproc.session.messages import (
    JOURNALLED,
    Abort,
    AbortReason,
    BasisRevelation,
    Confirmation,
    Decision,
    Hello,
    Message,
    MessageType,
    OutcomeHash,
    Receipt,
    RoundTypesTag,
    Syndrome,
    Verdict,
)
from tests.support.joined_parties import VARIABLE, small_parameters

PARAMETERS = small_parameters(num_rounds=13, syndrome_bits=9)
IN_PARTS = small_parameters(
    num_rounds=40, syndrome_bits=9, increments=tuple(range(10, 17)), **VARIABLE | {"key_bits": 4}
)
SESSION = bytes(range(16))
HEADER_BYTES = 26
HEAD = MAGIC + bytes([PROTOCOL_VERSION])
HELLO: dict[str, object] = {
    "role": "bob",
    "parameters_digest": bytes(32),
    "key_id": "",
    "run_id": "",
    "epoch": 0,
    "held": frozenset(),
}

tags = st.binary(min_size=8, max_size=8)
names = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=128)


def bits(num_bits: int) -> st.SearchStrategy[dict[str, object]]:
    unused = -num_bits % 8
    values = st.integers(0, 2**num_bits - 1)
    return values.map(
        lambda v: {"num_bits": num_bits, "packed": (v << unused).to_bytes((num_bits + 7) // 8, "big")}
    )


digests = st.binary(min_size=32, max_size=32)
messages = st.one_of(
    st.builds(
        Hello,
        role=st.sampled_from(["alice", "bob"]),
        parameters_digest=st.binary(min_size=32, max_size=32),
        key_id=names,
        run_id=names,
        epoch=st.integers(0, 2**64 - 1),
        held=st.frozensets(st.sampled_from(JOURNALLED)),
    ),
    bits(13).map(lambda fields: BasisRevelation(**fields)),
    st.builds(lambda fields, digest: Syndrome(**fields, code_digest=digest), bits(9), digests),
    st.builds(OutcomeHash, tag=tags),
    st.builds(RoundTypesTag, tag=tags),
    st.builds(Confirmation, tag=tags),
    st.builds(Decision, verdict=st.sampled_from(Verdict), tag=tags),
    st.builds(
        Decision, verdict=st.just(Verdict.TOO_MANY_LOSSES), num_losses=st.integers(0, 2**32 - 1), tag=tags
    ),
    st.just(Receipt()),
    st.builds(Abort, reason=st.sampled_from(AbortReason)),
)


@given(messages)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    frame = encode_frame(SESSION, message)
    decoded = decode_frame(frame, PARAMETERS, SESSION)
    assert decoded == message
    assert encode_frame(SESSION, decoded) == frame


@given(messages, st.data())
def test_one_changed_bit_is_refused_or_another_message(message: Message, data: st.DataObject) -> None:
    frame = bytearray(encode_frame(SESSION, message))
    place = data.draw(st.integers(0, 8 * len(frame) - 1))
    frame[place // 8] ^= 1 << place % 8
    with pytest.raises(RemoteProtocolError):  # an accident never passes
        decode_frame(bytes(frame), PARAMETERS, SESSION)
    if place >= 8 * (len(frame) - 8):
        return
    frame[-8:] = checksum(bytes(frame[:-8]))
    try:
        decoded = decode_frame(bytes(frame), PARAMETERS, SESSION)
    except RemoteProtocolError:
        return
    assert decoded != message
    assert encode_frame(SESSION, decoded) == bytes(frame)


@given(st.binary(max_size=80), st.booleans())
def test_garbage_raises_only_typed_errors(garbage: bytes, with_header: bool) -> None:
    reader = FrameReader(PARAMETERS, SESSION)
    try:
        reader.feed(HEAD + garbage if with_header else garbage)
        reader.peek()
    except RemoteProtocolError:
        pass


@given(st.lists(messages, max_size=5), st.integers(1, 40))
def test_any_cutting_of_the_stream_gives_the_same_messages(sent: list[Message], piece: int) -> None:
    reader = FrameReader(PARAMETERS, SESSION)
    reader.capacity = 10**6
    stream = b"".join(encode_frame(SESSION, message) for message in sent)
    received = []
    for start in range(0, len(stream), piece):
        reader.feed(stream[start : start + piece])
        while (found := reader.peek()) is not None:
            received.append(found[0])
            reader.discard(found[1])
    assert received == sent


@pytest.mark.parametrize("kind", list(MessageType))
def test_an_oversized_length_is_refused_with_the_header(kind: MessageType) -> None:
    identity = bytes(16) if kind is MessageType.HELLO else SESSION
    header = HEAD + bytes([kind]) + identity + (2**32 - 1).to_bytes(4, "big")
    assert len(header) == HEADER_BYTES
    reader = FrameReader(IN_PARTS, SESSION)
    reader.feed(header)
    with pytest.raises(RemoteProtocolError, match="4294967295 bytes"):
        reader.peek()


def test_a_flood_is_refused() -> None:
    reader = FrameReader(PARAMETERS, SESSION)
    reader.feed(bytes(reader.capacity))
    with pytest.raises(RemoteProtocolError, match="whole session"):
        reader.feed(b"\0")


def test_another_version_says_what_to_do() -> None:
    reader = FrameReader(PARAMETERS, SESSION)
    frame = bytearray(encode_frame(SESSION, Receipt()))
    frame[4] = 1
    reader.feed(bytes(frame))
    with pytest.raises(VersionMismatchError, match=r"version 1.*install the same version") as caught:
        reader.peek()
    assert caught.value.exit_code == ParameterError.exit_code


def test_a_frame_of_another_session_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="another session"):
        decode_frame(encode_frame(bytes(16), Receipt()), PARAMETERS, SESSION)


def test_two_frames_are_not_one() -> None:
    with pytest.raises(RemoteProtocolError, match="not one whole frame"):
        decode_frame(2 * encode_frame(SESSION, Receipt()), PARAMETERS, SESSION)


def test_filling_bits_have_to_be_zero() -> None:
    with pytest.raises(LocalProtocolError, match="must be 0"):
        BasisRevelation(num_bits=13, packed=b"\x00\x01")


def test_a_bit_string_of_another_length_is_refused() -> None:
    longer = encode_frame(SESSION, BasisRevelation(num_bits=14, packed=b"\x00\x04"))
    with pytest.raises(RemoteProtocolError, match="14 bits, the parameters say 13"):
        decode_frame(longer, PARAMETERS, SESSION)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Hello, HELLO | {"role": "eve"}),
        (Hello, HELLO | {"parameters_digest": bytes(31)}),
        (Hello, HELLO | {"key_id": "\n"}),
        (Hello, HELLO | {"run_id": 129 * "x"}),
        (Hello, HELLO | {"epoch": 2**64}),
        (Hello, HELLO | {"held": frozenset({MessageType.RECEIPT})}),
        (BasisRevelation, {"num_bits": 9, "packed": b"\0"}),
        (BasisRevelation, {"num_bits": 0, "packed": b""}),
        (Syndrome, {"num_bits": 8, "packed": b"\0", "code_digest": bytes(31)}),
        (OutcomeHash, {"tag": bytes(7)}),
        (Decision, {"verdict": Verdict.ACCEPTED, "num_losses": 1, "tag": bytes(8)}),
    ],
)
def test_messages_validate_themselves(kind: type[Message], fields: dict[str, object]) -> None:
    with pytest.raises(LocalProtocolError):
        kind(**fields)  # type: ignore[arg-type]


def test_messages_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        OutcomeHash(tag=bytes(8)).tag = bytes(8)  # type: ignore[misc]
