"""Connection of the two apparatuses: edges on the lines between the nodes, and where each node is.

Frames go through memory that both processes map, one ring of slots a direction: in a round each node waits
for the other one twice, and a system call takes longer than most of its steps. A loopback TCP connection goes
with them; Bob listens, Alice connects and names the file of the memory. A byte on it wakes an end that has
stopped looking, and its end tells that the other process is gone.

A frame is the index of a tape entry, a time in mu after the sender's own herald, a kind, and two small
numbers. A slot has four words of 64 bits: index, time, the rest with the frame's number in the ring, and the
exclusive or of these. A frame counts once all four fit, in whatever order the processor has written them.
"""

import mmap
import os
import select
import socket
import struct
import tempfile
from collections import deque
from collections.abc import Callable
from contextlib import suppress

Frame = tuple[int, int, int, int, int]  # index, time, kind, level, number

# Kinds: an edge on a line, by its place in LINES, with the level that goes with it; `number` is that of the
# sender's effect. The others are about the sender.
LINES = ("ttl_token", "ttl_round_type", "ttl_setting")
TOKEN, ROUND_TYPE, SETTING = range(len(LINES))
READY = 16  # Alice is in the handshake before the herald of `index`; level: bits below, number: of this try
TRIGGER = 17  # Bob's answer, with the number of her try; 0: she need not ask, he waits for her token
AWAY = 18  # has given up a handshake, or waited for a token in vain
OVER = 19  # will send no edge in round `index` any more
WAITING = 20  # waits for an edge until `time`, after having received `number` edges in the round

ION_PRESENT = 1  # of READY and TRIGGER
SEARCHED = 2  # of READY: has searched a herald of `index` already, and found none

# Looks for a frame before this process waits for one: some tens of microseconds. A switch between two
# processes takes longer where each has a processor of its own; where they share one, the looks are in vain
# unless this process lets the other one run in between.
POLLS = 200
POLLS_A_TURN = 10
MAX_VAIN = 8  # times in a row, after which it looks only
RETRY = 16  # every so many waits
SLICE_S = 0.002  # after which a wait is looked at again
CONNECT_TIMEOUT_S = 5.0

NUM_SLOTS = 1024  # more than a partner that plays leaves unread by far
SLOT_WORDS = 4
# Words of a direction: whether the receiver waits for a byte, and how many frames it has taken; then slots.
ASLEEP, TAKEN, SLOTS = 0, 1, 8
DIRECTION_WORDS = SLOTS + SLOT_WORDS * NUM_SLOTS
MEMORY_BYTES = 2 * 8 * DIRECTION_WORDS

_TIMEVAL = struct.Struct("@ll")
_NAME_LENGTH = struct.Struct("<H")


class PartnerConnection:
    """One end. Without a partner, `connected` is False, what is sent is lost and nothing comes.

    :param listens: whether this end listens (Bob); the other one asks `partner_port` where to connect
    """

    def __init__(self, listens: bool) -> None:
        self.connected = False
        self._listener = socket.create_server(("127.0.0.1", 0)) if listens else None
        self._socket: socket.socket | None = None
        self._file = ""  # of the memory, while it may be there
        self._inbox = self._outbox = memoryview(bytes(8 * DIRECTION_WORDS)).cast("q")
        self._num_sent = self._num_taken = 0
        self._given_back: deque[Frame] = deque()
        self._held = False  # frames were sent for which the partner was not woken
        self._num_waits = self._num_vain = 0

    @property
    def port(self) -> int:
        """On which this end listens, or 0."""
        return 0 if self._listener is None else int(self._listener.getsockname()[1])

    def meet(self, timeout_s: float, partner_port: Callable[[], int]) -> bool:
        """Connect to the partner, unless that is done. False if it is not there within `timeout_s`."""
        if self.connected:
            return True
        try:
            if self._listener is not None:
                if not select.select((self._listener,), (), (), timeout_s)[0]:
                    return False
                self._use(self._listener.accept()[0])
            elif port := partner_port():
                self._use(socket.create_connection(("127.0.0.1", port), CONNECT_TIMEOUT_S))
        except OSError:
            self.drop()
            return False
        return self.connected

    def _use(self, connection: socket.socket) -> None:
        """Share memory over a new connection.

        :raises OSError: the partner is gone, or its file
        """
        self.drop()
        self._socket = connection
        connection.settimeout(CONNECT_TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        memory = self._offer_memory() if self._listener is None else self._open_memory()
        directions = memory[:DIRECTION_WORDS], memory[DIRECTION_WORDS:]
        self._outbox, self._inbox = directions if self._listener is None else directions[::-1]
        connection.settimeout(None)
        # A blocking receive that ends is one system call; a poll before it would be another.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(0, int(1e6 * SLICE_S)))
        self._num_sent = self._num_taken = 0
        self._held = False
        self._given_back.clear()
        self.connected = True

    def _offer_memory(self) -> "memoryview[int]":
        """Alice: make the file and name it."""
        assert self._socket is not None
        descriptor, name = tempfile.mkstemp(prefix="diqkd-lines-")
        try:
            self._file = name
            os.write(descriptor, bytes(MEMORY_BYTES))
            memory = mmap.mmap(descriptor, MEMORY_BYTES)
        finally:
            os.close(descriptor)
        encoded = os.fsencode(name)
        self._socket.sendall(_NAME_LENGTH.pack(len(encoded)) + encoded)
        return memoryview(memory).cast("q")

    def _open_memory(self) -> "memoryview[int]":
        """Bob: map Alice's file, which nobody else needs then."""
        (length,) = _NAME_LENGTH.unpack(self._receive_exactly(_NAME_LENGTH.size))
        name = os.fsdecode(self._receive_exactly(length))
        with open(name, "r+b") as file:
            memory = mmap.mmap(file.fileno(), MEMORY_BYTES)
        os.unlink(name)
        return memoryview(memory).cast("q")

    def _receive_exactly(self, length: int) -> bytes:
        assert self._socket is not None
        data = b""
        while len(data) < length:
            part = self._socket.recv(length - len(data))
            if not part:
                raise ConnectionError("the partner has gone away")
            data += part
        return data

    def send(self, index: int, time: int, kind: int, level: int = 0, number: int = 0) -> None:
        """Send a frame, and wake a partner that waits for it."""
        self.hold(index, time, kind, level, number)
        self._wake()

    def hold(self, index: int, time: int, kind: int, level: int = 0, number: int = 0) -> None:
        """Send a frame, but wake the partner with the next one only, or before this end waits."""
        if not self.connected:
            return
        sent, box = self._num_sent, self._outbox
        if sent - box[TAKEN] >= NUM_SLOTS:
            self.drop()  # the partner has long stopped to take part
            return
        self._num_sent = sent + 1
        slot = SLOTS + SLOT_WORDS * (sent % NUM_SLOTS)
        rest = sent + 1 << 24 | kind << 16 | level << 8 | number
        box[slot] = index
        box[slot + 1] = time
        box[slot + 3] = index ^ time ^ rest
        box[slot + 2] = rest
        self._held = True

    def _wake(self) -> None:
        self._held = False
        if self._socket is not None and self._outbox[ASLEEP]:
            self._outbox[ASLEEP] = 0
            try:
                self._socket.sendall(b"\0")
            except OSError:
                self.drop()

    def look(self) -> Frame | None:
        """A frame that has come already, or None."""
        if self._given_back:
            return self._given_back.popleft()
        taken, box = self._num_taken, self._inbox
        slot = SLOTS + SLOT_WORDS * (taken % NUM_SLOTS)
        rest = box[slot + 2]
        if rest >> 24 != taken + 1:
            return None
        index, time = box[slot], box[slot + 1]
        if box[slot + 3] != index ^ time ^ rest:
            return None
        box[TAKEN] = self._num_taken = taken + 1
        return index, time, rest >> 16 & 0xFF, rest >> 8 & 0xFF, rest & 0xFF

    def put_back(self, frame: Frame) -> None:
        """Give this frame again."""
        self._given_back.appendleft(frame)

    def receive(self) -> Frame | None:
        """The next frame; None if none comes within `SLICE_S`, or if the connection has ended."""
        frame = self.look()
        if frame is not None or self._socket is None:
            return frame
        if self._held:
            self._wake()
        self._num_waits += 1
        if self._num_vain < MAX_VAIN or self._num_waits % RETRY == 0:
            box, taken = self._inbox, self._num_taken
            place = SLOTS + SLOT_WORDS * (taken % NUM_SLOTS) + 2
            for number in range(1, POLLS + 1):
                if box[place] >> 24 == taken + 1:
                    frame = self.look()
                    if frame is not None:
                        self._num_vain = 0
                        return frame
                if number % POLLS_A_TURN == 0:
                    os.sched_yield()
            self._num_vain += 1
        return self._sleep()

    def _sleep(self) -> Frame | None:
        """Wait for a byte of the partner, unless a frame has come."""
        self._inbox[ASLEEP] = 1
        frame = self.look()
        ended = False
        if frame is None and self._socket is not None:
            try:
                ended = not self._socket.recv(4096)
            except BlockingIOError:
                pass
            except OSError:
                ended = True
            frame = self.look()
        self._inbox[ASLEEP] = 0
        if ended and frame is None:
            self.drop()
        return frame

    def drop(self) -> None:
        """End the connection, but not the listening."""
        self.connected = False
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._file:
            with suppress(OSError):  # Bob has removed it
                os.unlink(self._file)
            self._file = ""

    def close(self) -> None:
        """End all."""
        self.drop()
        if self._listener is not None:
            self._listener.close()
