"""`diqkd delivery`: certificates and a trial of key delivery on one machine.

Needs the extra `delivery`. What it writes is for trials: the private keys are made here, whereas a
laboratory gets certificates from an authority of its own.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path

from diqkd.options import types as argument_types
from diqkd.options.extras import require_delivery
from diqkd.options.parsers import Actions
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.roles import ROLES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)
    trial = actions.add(
        "trial",
        "Write certificates, configurations and profiles to try key delivery on one machine.",
        write_trial,
        json=False,
    )
    trial.add_argument("run", type=Path, help="run directory of a finished demo; RUN/delivery is written")
    trial.add_argument("--alice-port", type=argument_types.count, default=8443, help="Alice's KME for SAEs")
    trial.add_argument("--bob-port", type=argument_types.count, default=8444, help="Bob's KME for SAEs")
    certificates = actions.add(
        "certificates",
        "Make certificates for a trial; a laboratory has an authority of its own.",
        write_certificates,
        json=False,
    )
    certificates.add_argument("directory", type=Path, help="new folder for certificates and keys")
    certificates.add_argument("--kme", nargs="+", default=["kme-alice", "kme-bob"], help="KME IDs")
    certificates.add_argument("--sae", nargs="+", default=["sae-alice", "sae-bob"], help="SAE IDs")
    certificates.add_argument(
        "--host", nargs="+", default=["localhost", "127.0.0.1"], help="names and addresses of the KMEs"
    )


def write_trial(arguments: Namespace) -> None:
    require_delivery()
    from diqkd_postproc.delivery import trial

    stores = [arguments.run / role / "keys.sqlite" for role in ROLES]
    for store in stores:
        if not store.is_file():
            raise ParameterError(
                f"{store} is not there: give the run directory of a finished `diqkd demo --run-dir RUN`"
            )
    ports = (arguments.alice_port, arguments.bob_port)
    folder = trial.write_trial(arguments.run, stores, ports)
    print(f"Wrote {folder}. Start the two services, each in a terminal of its own:\n")
    for role in ROLES:
        print(f"    diqkd serve --config {folder / f'{role}.toml'}")
    profiles = [folder / f"sae-{role}.toml" for role in ROLES]
    print("\nand get one key at both:\n")
    print(f"    diqkd key get --as {profiles[0]} --peer sae-bob -o {folder / 'keys-alice'}")
    print(f"    diqkd key get --as {profiles[1]} --peer sae-alice -o {folder / 'keys-bob'} --key-id ID")


def write_certificates(arguments: Namespace) -> None:
    require_delivery()
    from diqkd_postproc.delivery import trial

    trial.write_certificates(arguments.directory, arguments.kme, arguments.sae, arguments.host)
    print(f"Wrote certificates of {', '.join([*arguments.kme, *arguments.sae])} to {arguments.directory}")
