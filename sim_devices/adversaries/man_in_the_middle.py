"""Eve on the line between the two PCs: a relay that flips one bit of what Alice sends."""

import socket
import threading
from contextlib import suppress

from diqkd_postproc.parameters import ProtocolParameters
from diqkd_postproc.session.framing import HEADER_BYTES
from diqkd_postproc.session.messages import Hello
from sim_devices.faults.link_proxy import LinkFault, LinkProxy

REACH_S = 10.0  # s that Bob's listener has to answer


class ManInTheMiddle(LinkProxy):
    """Relays from its own port to `target`; flips a bit of byte number `after_bytes` of Alice's.

    The party that listens gives a caller ten seconds to say something, so it is called when Alice calls.
    """

    def __init__(self, target: tuple[str, int], after_bytes: int) -> None:
        super().__init__(target, LinkFault("corrupt", "alice", after_bytes))

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
    return HEADER_BYTES + len(hello.payload()) + HEADER_BYTES + length_of_settings + index // 8
