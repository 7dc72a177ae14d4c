"""Connection on which the nodes agree about pauses: public like its base class, on another port."""

from __future__ import annotations

from typing import ClassVar

from diqkd_node.run.peer_connection import POLL_INTERVAL_S, PeerAbsentError, PeerConnection
from diqkd_node.unattended.calibration_graph import CalibrationGraph
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.roles import other

VERSION = 1
HELLO_TIMEOUT_S = 30.0


class PauseConnection(PeerConnection):
    """Messages of `decisions`, and the greeting before them."""

    messages: ClassVar = {
        "hello": {"version": int, "role": str, "calibrations": str, "pauses": int},
        "propose": {"number": int, "reason": str},
        "agree": {"number": int},
        "decline": {"number": int},
        "ready": {"number": int, "joint": str},
        "finished": {},
        "leaving": {"reason": str},
        "error": {"message": str},
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
            raise self.fail("install the same version of diqkd on both PCs", ParameterError)
        if hello["role"] != other(role):
            raise self.fail(f"both nodes are {role}; one must be alice and the other bob", ParameterError)
        if hello["calibrations"] != graph.digest:
            raise self.fail(
                "the nodes have different calibrations; give both the same calibrations file",
                ParameterError,
            )
        return max(pauses, int(hello["pauses"]))
