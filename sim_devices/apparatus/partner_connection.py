"""Connection of the two apparatuses: edges on the lines between the nodes, and where each node is.

Fixed binary frames over loopback TCP; Bob listens, Alice connects. A frame is the index of a tape entry, a
time in mu after the sender's own herald, a kind, and two small numbers.
"""

import select
import socket
import struct
from collections import deque
from collections.abc import Callable

FRAME = struct.Struct("<qqBBBx")  # index, time, kind, level, number
Frame = tuple[int, int, int, int, int]

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
# processes takes longer where each has a processor of its own; where they share one it is the looks that are
# in vain.
POLLS = 40
MAX_VAIN = 8  # times in a row, after which it looks only
RETRY = 16  # every so many waits
SLICE_S = 0.002  # after which a wait is looked at again
CONNECT_TIMEOUT_S = 5.0

_TIMEVAL = struct.Struct("@ll")


class PartnerConnection:
    """One end. Without a partner, `connected` is False, what is sent is lost and nothing comes.

    :param listens: whether this end listens (Bob); the other one asks `partner_port` where to connect
    """

    def __init__(self, listens: bool) -> None:
        self.connected = False
        self._listener = socket.create_server(("127.0.0.1", 0)) if listens else None
        self._socket: socket.socket | None = None
        self._frames: deque[Frame] = deque()
        self._rest = self._held = b""
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
            return False
        return self.connected

    def _use(self, connection: socket.socket) -> None:
        self.drop()
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A blocking receive that ends is one system call; a poll before it would be another.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(0, int(1e6 * SLICE_S)))
        self._socket = connection
        self._frames.clear()
        self._rest = self._held = b""
        self.connected = True

    def send(self, index: int, time: int, kind: int, level: int = 0, number: int = 0) -> None:
        """Send a frame, after those that were held."""
        self._held += FRAME.pack(index, time, kind, level, number)
        self._flush()

    def hold(self, index: int, time: int, kind: int, level: int = 0, number: int = 0) -> None:
        """Send a frame with the next one, or before this end waits: a message costs more than a frame."""
        self._held += FRAME.pack(index, time, kind, level, number)

    def look(self) -> Frame | None:
        """A frame that has come already, or None."""
        frames = self._frames
        if not frames:
            self._read(socket.MSG_DONTWAIT)
        return frames.popleft() if frames else None

    def put_back(self, frame: Frame) -> None:
        """Give this frame again."""
        self._frames.appendleft(frame)

    def receive(self) -> Frame | None:
        """The next frame; None if none comes within `SLICE_S`, or if the connection has ended."""
        frames = self._frames
        if frames:
            return frames.popleft()
        if self._held:
            self._flush()
        self._num_waits += 1
        if self._num_vain < MAX_VAIN or self._num_waits % RETRY == 0:
            for _ in range(POLLS):
                self._read(socket.MSG_DONTWAIT)
                if frames:
                    self._num_vain = 0
                    return frames.popleft()
            self._num_vain += 1
        self._read(0)
        return frames.popleft() if frames else None

    def _read(self, flags: int) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(4096, flags)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop()
            return
        if self._rest:
            data = self._rest + data
        whole = len(data) - len(data) % FRAME.size
        self._rest = data[whole:]
        self._frames.extend(FRAME.iter_unpack(data[:whole]))

    def _flush(self) -> None:
        data, self._held = self._held, b""
        if self._socket is not None:
            try:
                self._socket.sendall(data)
            except OSError:
                self.drop()

    def drop(self) -> None:
        """End the connection, but not the listening."""
        self.connected = False
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """End all."""
        self.drop()
        if self._listener is not None:
            self._listener.close()
