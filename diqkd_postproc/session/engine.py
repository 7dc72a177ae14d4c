"""The session engine: bytes in, events out, no socket, no file, no secret.

Theory of operation. The engine walks one of the tables of `states`. Its driver loops:

    event = engine.next_event()
    Need(work)            -> compute; engine.send(message) or engine.answer(Done/Passed/Failed)
    Persist, ConsumeKey,
    ActivateKey           -> make it durable; engine.acknowledge(event)
    NEED_DATA             -> engine.receive_data(bytes from the peer; b"" at the end of the stream)
    notices               -> nothing

and after each turn writes `engine.data_to_send()` to the peer.

Four rules make it safe under crashes and attacks:

- Every protocol message, sent or received, is an acknowledged `Persist` before its bytes leave or before it
  takes effect, and every pad an acknowledged `ConsumeKey` before work may use it.
- A journal from an interrupted session puts the engine into the state after the last message, and its own
  messages are sent again as they were. A message that the peer repeats must be the recorded one, bit for
  bit: nobody gets a second attempt at a tag.
- Both sides open by saying which messages they hold. One that has forgotten what the other remembers runs on
  a restored old copy, and the session ends before a pad is used.
- An event that the state does not allow raises LocalProtocolError (our driver) or RemoteProtocolError (the
  peer) and changes nothing.

Bytes are judged only where the table waits for the peer, except that a lost connection is known at once.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from diqkd_postproc.protocol.errors import (
    DiqkdError,
    LocalProtocolError,
    ParameterError,
    RemoteProtocolError,
)
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import Role
from diqkd_postproc.session.continuity import require_common_past
from diqkd_postproc.session.events import (
    Aborted,
    Answer,
    Effect,
    Event,
    Failed,
    Finished,
    Passed,
    PeerAgreed,
    Persist,
    Signal,
    StartExtraction,
)
from diqkd_postproc.session.framing import SESSION_ID_BYTES, FrameReader, encode_frame
from diqkd_postproc.session.messages import (
    Abort,
    AbortReason,
    Decision,
    Hello,
    Increment,
    Message,
    MessageType,
    Receipt,
    Verdict,
)
from diqkd_postproc.session.states import (
    NEEDS_NO_PEER,
    SENT_BY,
    TERMINAL,
    State,
    state_after,
    tables,
)


class PeerUnavailable(DiqkdError):
    """The peer cannot be reached, or went away before the end: no outcome of the protocol, try again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptEntry:
    """One public protocol message: type, sender, size and SHA-256 of its frame."""

    message: str
    sender: Role
    num_bytes: int
    sha256: str


def derive_session_id(parameters: ProtocolParameters, key_id: str, run_id: str) -> bytes:
    """(16 bytes) public name of the one session that a run and an initial key can have."""
    fields = (b"diqkd session", parameters.canonical(), key_id.encode(), run_id.encode())
    digest = hashlib.sha256(b"".join(len(f).to_bytes(8, "big") + f for f in fields))
    return digest.digest()[:SESSION_ID_BYTES]


class SessionEngine:
    """One party's side of steps 4 to 11; see the module's description for how it is driven."""

    def __init__(
        self,
        role: Role,
        parameters: ProtocolParameters,
        key_id: str,
        run_id: str,
        journal: Sequence[Persist] = (),
        key_is_active: bool = False,
        epoch: int = 0,
    ) -> None:
        """epoch: the key store's when the session began."""
        self.role: Role = role
        self.key_id = key_id
        self.session_id = derive_session_id(parameters, key_id, run_id)
        self.state = State.GREETING
        self.verdict = Verdict.ACCEPTED
        self.num_losses = 0
        self.key_bits = 0  # as announced, with a variable length
        self.epochs: dict[Role, int] = {role: epoch}
        self._wrong_tag: MessageType | None = None
        self.messages: dict[MessageType, Message] = {}
        self._num_increments = len(parameters.syndrome_totals)
        self._table = tables(self._num_increments)[role]
        self._reader = FrameReader(parameters, self.session_id)
        self._frames: dict[MessageType, Persist] = {}
        self.key_is_active = key_is_active
        self._notices: deque[Event] = deque()
        self._pending: Persist | None = None
        self._requested = False
        self._closed = False
        for entry in journal:
            self._record(entry)
        self._resume_state = self._state_from_journal()
        self._hello = Hello(
            role=role,
            parameters_digest=bytes.fromhex(parameters.digest),
            key_id=key_id,
            run_id=run_id,
            epoch=epoch,
            held=frozenset(self._frames),
        )
        self._outgoing = bytearray(encode_frame(self.session_id, self._hello))

    def _record(self, entry: Persist) -> None:
        kind = entry.message.type
        self._frames[kind] = entry
        self.messages[kind] = entry.message
        if isinstance(entry.message, Decision):
            self.verdict, self.num_losses = entry.message.verdict, entry.message.num_losses
            self.key_bits = entry.message.key_bits

    def _state_from_journal(self) -> State | None:
        if self.key_is_active:
            return State.DONE if self.role == "alice" else State.AWAITING_RECEIPT
        if not self._frames:
            return None
        last = next(reversed(self._frames))
        return state_after(self.role, last, self._refused(), self._num_increments)

    def _refused(self) -> bool:
        return self.verdict is not Verdict.ACCEPTED

    @property
    def increments_held(self) -> int:
        """j: parts of the syndrome that Alice has sent, or Bob received, the first included."""
        return 1 + sum(isinstance(message, Increment) for message in self.messages.values())

    @property
    def resumed(self) -> bool:
        """Whether an interrupted session goes on."""
        return self._resume_state is not None

    @property
    def max_bytes(self) -> int:
        """Bytes of a whole session: more than this no peer has to say."""
        return self._reader.capacity

    @property
    def has_part_of_a_message(self) -> bool:
        """Whether the bytes received up to now end within a message."""
        return self._reader.has_rest

    @property
    def needs_peer(self) -> bool:
        """Whether the loss of the connection ends the session now."""
        return self.state not in TERMINAL and self.state not in NEEDS_NO_PEER[self.role]

    @property
    def transcript(self) -> tuple[TranscriptEntry, ...]:
        """The protocol messages up to now, in the order of the protocol: equal on both sides."""
        senders = {kind: role for role, kinds in SENT_BY.items() for kind in kinds}
        return tuple(
            TranscriptEntry(
                message=kind.name,
                sender=senders[kind],
                num_bytes=len(entry.frame),
                sha256=hashlib.sha256(entry.frame).hexdigest(),
            )
            for kind, entry in sorted(self._frames.items())
        )

    @property
    def transcript_digest(self) -> str:
        """SHA-256 (hex) of all protocol frames in the order of the protocol: equal on both sides."""
        frames = [self._frames[kind].frame for kind in sorted(self._frames)]
        return hashlib.sha256(b"".join(frames)).hexdigest()

    def whole_stream(self) -> bytes:
        """All that this side has to say by now, behind a Hello of now: for transports that keep files."""
        hello = replace(self._hello, held=frozenset(self._frames))
        frames = [encode_frame(self.session_id, hello)]
        frames += [entry.frame for entry in self._frames.values() if entry.outgoing]
        if self._wrong_tag is not None:
            frames.append(encode_frame(self.session_id, Abort(reason=AbortReason.TAG_WRONG)))
        if self.role == "alice" and (self.key_is_active or self.state is State.DONE):
            frames.append(encode_frame(self.session_id, Receipt()))
        return b"".join(frames)

    def data_to_send(self) -> bytes:
        """Bytes for the peer; each byte is handed out once."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; b"" says that the stream has ended."""
        if not data:
            self._closed = True
        elif self._closed:
            raise LocalProtocolError("bytes were received after the end of the stream")
        else:
            self._reader.feed(data)

    def next_event(self) -> Event | Signal:
        """The next event, or a Signal saying what the engine waits for.

        Raises RemoteProtocolError, ParameterError (the sides do not fit together), OldCopyError or
        PeerUnavailable.
        """
        while True:
            if self._notices:
                return self._notices.popleft()
            if self._pending is not None or self.state in TERMINAL:
                return Signal.NEED_ANSWER
            row = self._table[self.state]
            if row.requests is not None:
                if self._requested:
                    return Signal.NEED_ANSWER
                self._requested = True
                return row.requests
            found = self._reader.peek()
            if found is not None:
                self._receive(*found)
                self._reader.discard(found[1])
            elif not self._closed:
                return Signal.NEED_DATA
            else:
                self._peer_is_gone()

    def _peer_is_gone(self) -> None:
        if self.state is not State.AWAITING_RECEIPT:
            raise PeerUnavailable(
                f"the peer closed the connection while this side was {self.state.value}; "
                "nothing is lost: start both sides again and the session goes on where it stopped"
            )
        self._finish(peer_confirmed=False)

    def _receive(self, message: Message, frame: bytes) -> None:
        kind = message.type
        known = self._frames.get(kind)
        if isinstance(message, Abort):
            self._peer_left(message)
        elif known is not None:
            if known.outgoing or known.frame != frame:
                raise RemoteProtocolError(
                    f"the {kind.name} of the peer is not the one of the interrupted session; "
                    "this session cannot go on, and another one needs another run"
                )
        elif kind not in self._table[self.state].receives:
            raise RemoteProtocolError(f"{kind.name} of the peer came while this side was {self.state.value}")
        elif isinstance(message, Hello):
            self._agree(message)
        elif isinstance(message, Receipt):
            self._finish(peer_confirmed=True)
        else:
            self._pending = Persist(outgoing=False, message=message, frame=frame)
            self._notices.append(self._pending)

    def _peer_left(self, message: Abort) -> None:
        if self.state is not State.AWAITING_RECEIPT:
            raise PeerUnavailable(
                f"the peer left the session while this side was {self.state.value} (it says, not "
                f"authenticated: {message.reason.name.lower().replace('_', ' ')}); see what it reports and "
                "start both sides again: the session goes on where it stopped"
            )
        self._finish(peer_confirmed=False)

    def _agree(self, theirs: Hello) -> None:
        ours = self._hello
        if theirs.role == ours.role:
            raise ParameterError(f"both sides run as {ours.role}; one has to be alice, the other bob")
        for what, mine, other, remedy in (
            (
                "protocol parameters",
                ours.parameters_digest.hex(),
                theirs.parameters_digest.hex(),
                "use the same parameter file on both sides",
            ),
            ("run", ours.run_id, theirs.run_id, "use the two records of one run"),
            ("initial key", ours.key_id, theirs.key_id, "use the newest two key stores of one pair"),
        ):
            if mine != other:
                raise ParameterError(
                    f"the sides have a different {what}: {mine} here, {other} at the peer; {remedy}"
                )
        require_common_past(ours, theirs)
        self.epochs[theirs.role] = theirs.epoch
        for entry in self._frames.values():
            if entry.outgoing:
                self._outgoing += entry.frame
        self._notices.append(PeerAgreed(resumed=self.resumed))
        receives = self._table[self.state].receives
        self._enter(receives[MessageType.HELLO] if self._resume_state is None else self._resume_state)

    def _enter(self, state: State) -> None:
        self.state = state
        self._requested = False
        if state is State.AWAITING_DECISION:
            self._notices.append(StartExtraction())
        if state is State.DONE:
            self._outgoing += encode_frame(self.session_id, Receipt())
            self._notices.append(Finished(peer_confirmed=True))
        if state is State.ABORTED:
            if self._wrong_tag is not None:
                self._outgoing += encode_frame(self.session_id, Abort(reason=AbortReason.TAG_WRONG))
            self._notices.append(
                Aborted(verdict=self.verdict, num_losses=self.num_losses, wrong_tag=self._wrong_tag)
            )

    def _finish(self, peer_confirmed: bool) -> None:
        self.state = State.DONE
        self._notices.append(Finished(peer_confirmed=peer_confirmed))

    def _expect_request(self) -> None:
        if self._pending is not None:
            raise LocalProtocolError(f"{type(self._pending).__name__} has to be acknowledged first")
        if not self._requested:
            raise LocalProtocolError(f"nothing was requested while {self.state.value}")

    def send(self, message: Message) -> None:
        """Hand over the message that the state requested; it leaves once its Persist is acknowledged."""
        self._expect_request()
        sends = self._table[self.state].sends
        if sends is None or message.type is not sends[0]:
            raise LocalProtocolError(f"{message.type.name} cannot be sent while {self.state.value}")
        decided = (self.verdict, self.num_losses, self.key_bits)
        if isinstance(message, Decision) and decided != (
            message.verdict,
            message.num_losses,
            message.key_bits,
        ):
            raise LocalProtocolError(f"the decision contradicts the checks, which say {self.verdict.name}")
        self._pending = Persist(outgoing=True, message=message, frame=encode_frame(self.session_id, message))
        self._notices.append(self._pending)

    def answer(self, answer: Answer) -> None:
        """Answer a Need that makes no message."""
        self._expect_request()
        row = self._table[self.state]
        if type(answer) not in row.answers:
            raise LocalProtocolError(
                f"{type(answer).__name__} does not answer what was requested while {self.state.value}"
            )
        following = row.answers[type(answer)]
        if isinstance(answer, Failed) and row.refusal is not None:
            self.verdict = row.refusal
            self.num_losses = answer.num_losses if row.refusal is Verdict.TOO_MANY_LOSSES else 0
        elif isinstance(answer, Failed):
            self._wrong_tag = row.checks
        elif isinstance(answer, Passed) and row.refusal is Verdict.TOO_MANY_LOSSES:
            self.num_losses, self.key_bits = answer.num_losses, answer.key_bits
        if self._refused() and row.if_refused is not None:
            following = row.if_refused
        self._enter(following)

    def acknowledge(self, effect: Effect) -> None:
        """The effect is durable: the state goes on, and a persisted message leaves."""
        if self._pending is not None:
            if effect is not self._pending:
                raise LocalProtocolError("another effect has to be acknowledged first")
            self._pending = None
            self._record(effect)
            if effect.outgoing:
                self._outgoing += effect.frame
                kind = effect.message.type
                self._enter(state_after(self.role, kind, self._refused(), self._num_increments))
            else:
                self._enter(self._table[self.state].receives[effect.message.type])
            return
        row = self._table[self.state]
        if not self._requested or effect != row.requests or row.then is None:
            raise LocalProtocolError(
                f"{type(effect).__name__} is not what was requested while {self.state.value}"
            )
        self._enter(row.then)

    def check_connection(self) -> None:
        """Raise if the peer has gone away and this side cannot reach its end without it.

        For drivers, while work is under way: whole messages that have arrived are judged in their turn.
        """
        if not self._closed or not self.needs_peer:
            return
        found = self._reader.peek()
        if found is None:
            self._peer_is_gone()
        elif isinstance(found[0], Abort):
            self._peer_left(found[0])

    def leave(self, reason: AbortReason) -> None:
        """Tell the peer that this side goes away without a decision; the state stays, for a later session."""
        if self.state not in TERMINAL:
            self._outgoing += encode_frame(self.session_id, Abort(reason=reason))
