"""Connection on which the nodes agree about pauses: protected like its base class, on another port."""

from __future__ import annotations

from typing import ClassVar

from diqkd_node.run.messages import ENDS, hexadecimal, name, names, number
from diqkd_node.run.peer_connection import POLL_INTERVAL_S, PeerAbsentError, PeerConnection
from diqkd_node.run.reasons import Fault
from diqkd_node.unattended.calibration_graph import CalibrationGraph
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.roles import other

VERSION = 2
HELLO_TIMEOUT_S = 30.0


class PauseConnection(PeerConnection):
    """Messages of `decisions`, and the greeting before them."""

    purpose = b"pauses"
    messages: ClassVar = {
        "hello": {"version": number, "role": name, "calibrations": hexadecimal, "pauses": number},
        "propose": {"number": number, "due": names},
        "agree": {"number": number},
        "decline": {"number": number},
        "ready": {"number": number, "joint": names},
        "finished": {},
        **ENDS,
    }

    def greet(self, role: str, graph: CalibrationGraph, pauses: int) -> int:
        """Exchange hellos; returns the number of pauses to count from, the larger of both nodes'.

        :raises ParameterError: the nodes do not belong together; both get it
        """
        self.send("hello", version=VERSION, role=role, calibrations=graph.digest, pauses=pauses)
        waited = 0.0
        while (hello := self.receive(POLL_INTERVAL_S)) is None:
            waited += POLL_INTERVAL_S
            if waited > HELLO_TIMEOUT_S:
                raise PeerAbsentError(f"the node at {self.peer} sent no 'hello' for {HELLO_TIMEOUT_S:g} s")
        if hello["kind"] != "hello" or hello["version"] != VERSION:
            raise self.fail("install the same version of diqkd on both PCs", ParameterError, Fault.VERSION)
        if hello["role"] != other(role):
            raise self.fail(
                f"both nodes are {role}; one must be alice and the other bob", ParameterError, Fault.ROLES
            )
        if hello["calibrations"] != graph.digest:
            raise self.fail(
                "the nodes have different calibrations; give both the same calibrations file",
                ParameterError,
                Fault.CALIBRATIONS,
            )
        return max(pauses, int(hello["pauses"]))
