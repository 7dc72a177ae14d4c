"""Simulated laboratory: a process that holds both ions, and the apparatus by which a node reaches it."""

import multiprocessing
import signal
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.laboratory.server import LaboratoryServer
from sim_devices.physics.link import LinkModel

__all__ = ["LaboratoryConfiguration", "LaboratoryServer", "LinkModel", "start_laboratory"]

START_TIMEOUT = 30.0  # s; a spawned interpreter imports NumPy first


def _serve(configuration: LaboratoryConfiguration, host: str, port: int, address: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the nodes; whoever started us stops us
    server = LaboratoryServer(configuration, host, port)
    address.send_bytes(f"{server.address[0]}:{server.address[1]}".encode())
    address.close()
    server.serve()


def start_laboratory(
    configuration: LaboratoryConfiguration | None = None, host: str = "127.0.0.1", port: int = 0
) -> tuple[BaseProcess, str]:
    """Start a laboratory in a process of its own; returns it and its address "host:port".

    The process is a daemon: it ends with its parent, or by `terminate`.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_serve, args=(configuration or LaboratoryConfiguration(), host, port, sender), daemon=True
    )
    process.start()
    sender.close()
    try:
        if not receiver.poll(START_TIMEOUT):
            raise TimeoutError(f"the laboratory did not start within {START_TIMEOUT} s")
        return process, receiver.recv_bytes(256).decode()
    except (EOFError, TimeoutError):
        process.terminate()
        raise RuntimeError(f"the laboratory could not listen on {host}:{port}; is the port in use?") from None
    finally:
        receiver.close()
