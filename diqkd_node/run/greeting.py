"""First messages between the nodes: same version, same parameters and timings, different roles, one run.

A node tells what it has recorded so far. Whatever does not fit ends both nodes with the same message before
any hardware moves.
"""

import re
import secrets

from diqkd_node.run.reasons import Fault
from diqkd_node.run.shared_timings import differences, digest, is_valid
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.roles import other

VERSION = 6


def _is_run_id(text):
    return re.fullmatch("[0-9a-f]{32}", text) is not None


def exchange_hellos(role, spool, connection, wait_for, timings):
    """Agree on the run id, which the spool adopts; returns the other node's hello.

    :param role: "alice" or "bob", this node
    :param spool: open `RoundSpool` of this node
    :param connection: connected `PeerConnection`
    :param wait_for: returns the next message of a kind
    :param timings: `shared_timings` of this node

    Raises ParameterError, on both sides, if the nodes do not belong to the same run or would not keep in
    step.
    """
    proposal = secrets.token_hex(16)
    connection.send(
        "hello",
        version=VERSION,
        role=role,
        protocol=spool.parameters.protocol,
        parameters=spool.parameters.digest,
        run_id=spool.run_id or "",
        proposed_run_id=proposal,
        rounds=spool.rounds_done,
        columns=spool.peer_rounds_done,
        timings=timings,
        timings_digest=digest(timings),
    )
    hello = wait_for("hello")
    if hello["version"] != VERSION:
        raise connection.fail(
            f"this node speaks version {VERSION} of the nodes' protocol, the other {hello['version']}; "
            "install the same version of diqkd on both PCs",
            ParameterError,
            Fault.VERSION,
        )
    if hello["role"] != other(role):
        raise connection.fail(
            f"both nodes are {role}; one must be alice and the other bob", ParameterError, Fault.ROLES
        )
    if hello["protocol"] != spool.parameters.protocol:
        raise connection.fail(
            f"the order of a round is {spool.parameters.protocol!r} at {role} and {hello['protocol']!r} at "
            f"{hello['role']}; give both the same parameter file (`diqkd plan --protocol` makes one)",
            ParameterError,
            Fault.PARAMETERS,
        )
    if hello["parameters"] != spool.parameters.digest:
        raise connection.fail(
            f"the nodes have different protocol parameters ({role}: {spool.parameters.digest[:16]}, "
            f"{hello['role']}: {hello['parameters'][:16]}); give both the same parameter file",
            ParameterError,
            Fault.PARAMETERS,
        )
    if not is_valid(hello["timings"], timings) or hello["timings_digest"] != digest(hello["timings"]):
        raise connection.fail("the other node's timings are malformed")
    if differing := differences((role, timings), (other(role), hello["timings"])):
        raise connection.fail(
            f"the nodes would not keep in step: {'; '.join(differing)}; give both nodes' configuration files "
            "the same value",
            ParameterError,
            Fault.TIMINGS,
        )
    if hello["run_id"] and not _is_run_id(hello["run_id"]):
        raise connection.fail("the other node's run id is malformed")
    if spool.run_id and hello["run_id"] and spool.run_id != hello["run_id"]:
        raise connection.fail(
            f"the nodes' run directories belong to different runs ({role}: {spool.run_id}, "
            f"{hello['role']}: {hello['run_id']}); give both the directory of the same run",
            ParameterError,
            Fault.RUN,
        )
    ordered = hello["columns"] <= min(hello["rounds"], spool.rounds_done)
    if (
        not ordered
        or hello["rounds"] > spool.parameters.num_rounds
        or not _is_run_id(hello["proposed_run_id"])
    ):
        raise connection.fail("the other node's hello makes no sense")
    own, theirs = proposal, hello["proposed_run_id"]
    agreed = spool.run_id or hello["run_id"] or (own if role == "bob" else theirs)
    if spool.rounds_done != hello["rounds"] and not (spool.run_id and hello["run_id"]):
        raise connection.fail(
            "one node has rounds of a run that the other has never begun; use its run directory",
            ParameterError,
            Fault.RUN,
        )
    connection.send("run", run_id=agreed)
    if wait_for("run")["run_id"] != agreed:
        raise connection.fail("the nodes have not understood each other's run id; start both again")
    if spool.run_id is None:
        spool.adopt_run_id(agreed)
    return hello
