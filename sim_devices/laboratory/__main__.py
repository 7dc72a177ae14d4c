"""Command line of a laboratory for two nodes: ``python -m sim_devices.laboratory --port 3270``."""

import argparse
import secrets
import sys
import threading
from pathlib import Path
from typing import TextIO

from sim_devices.apparatus.line_tampering import LINE_ATTACKS, LineTampering
from sim_devices.apparatus.wire import PROTOCOLS
from sim_devices.laboratory.configuration import FAULT_KINDS, LaboratoryConfiguration
from sim_devices.laboratory.server import LaboratoryServer
from sim_devices.laboratory.tampering import Tampering
from sim_devices.physics.constants import ATTEMPT_SUCCESS
from sim_devices.physics.drift import Drift
from sim_devices.physics.link import LINK_KINDS, LinkModel


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim_devices.laboratory",
        description="Simulated ions, photonic link and heralding station for two nodes on this computer.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=3270, help="TCP port; 0 takes a free one")
    parser.add_argument(
        "--seed", type=int, help="everything that nature draws follows from it (default: a secret one)"
    )
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default="ordered", help="order of the nodes' measurements in a round"
    )
    parser.add_argument(
        "--link", choices=LINK_KINDS, default="measured", help="which link; local gives S = 2"
    )
    parser.add_argument("--visibility", type=float, default=1.0, help="of a lossy link, 0 to 1")
    parser.add_argument(
        "--success-probability", type=float, default=ATTEMPT_SUCCESS, help="heralds per attempt"
    )
    parser.add_argument(
        "--distinguishability",
        type=float,
        default=LinkModel.distinguishability,
        help="part of the photons' modes, beside their times, in which they differ",
    )
    parser.add_argument(
        "--dark-rate",
        type=float,
        default=LinkModel.dark_rate,
        help="counts a second of all detectors of the station together",
    )
    parser.add_argument("--chunk", type=int, default=128, help="heralds handed out at a time")
    parser.add_argument("--alice-ion-loss", type=float, default=0.0, help="probability per round")
    parser.add_argument("--bob-ion-loss", type=float, default=0.0, help="probability per round")
    parser.add_argument("--lock-loss", type=float, default=0.0, help="probability per round")
    parser.add_argument("--lock-loss-duration", type=float, default=0.05, help="s of node time")
    parser.add_argument(
        "--label-mismatch",
        type=float,
        default=LaboratoryConfiguration.label_mismatch,
        help="probability per herald that the slave's core sees another pattern",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="ROUND:KIND",
        help=f"one fault at a given round; kinds: {', '.join(FAULT_KINDS)}; may be repeated",
    )
    parser.add_argument(
        "--drift", type=Path, metavar="FILE", help="how the laboratory drifts: JSON, see physics/drift.py"
    )
    parser.add_argument(
        "--local-fraction",
        type=float,
        default=0.0,
        help="share of rounds that the devices answer from a list",
    )
    parser.add_argument(
        "--measured-fraction", type=float, default=0.0, help="share of rounds that the station measures"
    )
    parser.add_argument(
        "--stuck-electrode",
        choices=["alice", "bob"],
        default="",
        help="node of which one electrode does not move",
    )
    parser.add_argument(
        "--line-attack",
        choices=LINE_ATTACKS,
        metavar="NAME",
        default="",
        help=f"on the lines between the nodes: {', '.join(LINE_ATTACKS)}",
    )
    parser.add_argument("--line-attack-share", type=float, default=1.0, help="of the rounds that it takes")
    parser.add_argument(
        "--strobe-delay", type=float, default=60.0, help="of the attack strobe-delay, in microseconds"
    )
    parser.add_argument(
        "--stdin", action="store_true", help="end when standard input does, as it does with a parent's death"
    )
    return parser


def stop_at_end_of(stream: TextIO, server: LaboratoryServer) -> None:
    """Stop the server once the stream has ended, from a thread of its own."""

    def wait() -> None:
        while stream.read(1 << 12):
            pass
        server.stop()

    threading.Thread(target=wait, name="end of standard input", daemon=True).start()


def main(arguments: list[str] | None = None) -> int:
    parser = argument_parser()
    options = parser.parse_args(arguments)
    try:
        faults = []
        for text in options.fault:
            index, _, kind = text.partition(":")
            faults.append((int(index), kind))
        configuration = LaboratoryConfiguration(
            seed=secrets.randbits(63) if options.seed is None else options.seed,
            protocol=options.protocol,
            link=LinkModel(
                options.link,
                options.visibility,
                options.success_probability,
                options.distinguishability,
                options.dark_rate,
            ),
            chunk=options.chunk,
            ion_loss_probability_alice=options.alice_ion_loss,
            ion_loss_probability_bob=options.bob_ion_loss,
            lock_loss_probability=options.lock_loss,
            lock_loss_duration=options.lock_loss_duration,
            label_mismatch=options.label_mismatch,
            scheduled_faults=tuple(faults),
            drift=Drift.from_json(options.drift.read_text()) if options.drift else Drift(),
            tampering=Tampering(
                options.local_fraction,
                options.measured_fraction,
                options.stuck_electrode,
                LineTampering(options.line_attack, options.line_attack_share, options.strobe_delay),
            ),
        )
        server = LaboratoryServer(configuration, options.host, options.port)
    except (ValueError, TypeError, KeyError, OSError) as error:
        parser.error(str(error))
    print(f"laboratory at {server.address[0]}:{server.address[1]}", flush=True)
    if options.stdin:
        stop_at_end_of(sys.stdin, server)
    try:
        server.serve()
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
