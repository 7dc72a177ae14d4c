"""Relay between the two PCs that flips one bit of what Alice sends.

She makes the checksum of the changed frame fit again, so that the change looks like no accident.
"""

import socket
import threading
from contextlib import suppress

from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.session.framing import CHECKSUM_BYTES, FRAME_BYTES, HEADER_BYTES, checksum
from diqkd_postproc.session.messages import Hello
from sim_devices.adversaries.link_proxy import LinkProxy

REACH_S = 10.0  # s that Bob's listener has to answer


class ManInTheMiddle(LinkProxy):
    """Relays from its own port to `target`; flips a bit of byte number `after_bytes` of Alice's.

    The party that listens gives a caller ten seconds to say something, so it is called when Alice calls.
    """

    def __init__(self, target: tuple[str, int], after_bytes: int) -> None:
        self._place = after_bytes
        super().__init__(target)

    def _serve(self) -> None:
        while (alice := self._accept()) is not None:
            with self._lock:
                self._sockets.append(alice)
            try:
                bob = socket.create_connection(self.target, REACH_S)
            except OSError:
                with suppress(OSError):
                    alice.close()
                continue
            bob.settimeout(None)
            with self._lock:
                self._sockets.append(bob)
            for source, sink, sender in ((alice, bob, "alice"), (bob, alice, "bob")):
                threading.Thread(target=self._forward, args=(source, sink, sender), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, sender: str) -> None:
        if sender == "alice":
            with suppress(OSError), source.makefile("rb") as stream:
                while header := stream.read(HEADER_BYTES):
                    rest = stream.read(int.from_bytes(header[-4:], "big") + CHECKSUM_BYTES)
                    sink.sendall(self._changed(header + rest))
        super()._forward(source, sink, sender)

    def _changed(self, frame: bytes) -> bytes:
        place = self._place - len(self.recorded["alice"])
        self.recorded["alice"] += frame
        if self.happened or not 0 <= place < len(frame) - CHECKSUM_BYTES:
            return frame
        self.happened = True
        content = frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 : -CHECKSUM_BYTES]
        return content + checksum(content)


def byte_of_setting(parameters: ProtocolParameters, key_id: str, run_id: str, index: int) -> int:
    """Which byte of Alice's stream holds her setting of round `index`: all she sends before is her Hello."""
    hello = Hello(
        role="alice",
        parameters_digest=bytes.fromhex(parameters.digest),
        key_id=key_id,
        run_id=run_id,
        epoch=0,
        held=frozenset(),
    )
    length_of_settings = 4
    return FRAME_BYTES + len(hello.payload()) + HEADER_BYTES + length_of_settings + index // 8
