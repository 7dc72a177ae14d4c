"""Key of the nodes' connection, from the key store of a run that has one."""

from pathlib import Path

from artiq.experiment import HasEnvironment, StringValue

from diqkd_node.run.environment import path_argument
from diqkd_postproc.key_store import Credential, KeyFile, KeyStore, PassphraseFile
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import ProtocolParameters

KEY_STORE_NAME = "keys.sqlite"


def ask_for_key_store(experiment: HasEnvironment) -> None:
    """The arguments `key_store`, `passphrase_file` and `key_file`, for `build`."""
    for name, what in (
        (
            "key_store",
            f"Key store of this run: authenticates the connection. Empty: {KEY_STORE_NAME} in the run "
            "directory, if there is one, otherwise the connection is open.",
        ),
        ("passphrase_file", "Private file whose first line opens an encrypted key store."),
        ("key_file", "Private file of random bytes that opens it instead."),
    ):
        experiment.setattr_argument(name, StringValue(""), "Key store", what)


def link_key_of(experiment: HasEnvironment, parameters: ProtocolParameters, directory: Path) -> bytes | None:
    """The segment `node_link` of the key store that the arguments name; None if the run has no key store.

    Raises ParameterError, or StorageError for a key store that is missing, locked or made for another run.
    """
    path = path_argument(experiment, "key_store") if experiment.key_store else directory / KEY_STORE_NAME
    if not experiment.key_store and not path.exists():
        return None
    with KeyStore.open(path, parameters, _credential(experiment)) as store:
        return store.node_link_key()


def _credential(experiment: HasEnvironment) -> Credential | None:
    if experiment.passphrase_file and experiment.key_file:
        raise ParameterError("passphrase_file and key_file both say what opens the key store; give one")
    if experiment.passphrase_file:
        return PassphraseFile(path_argument(experiment, "passphrase_file"))
    if experiment.key_file:
        return KeyFile(path_argument(experiment, "key_file"))
    return None
