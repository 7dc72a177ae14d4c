"""The errors a caller can act on; the command line maps each to an exit code.

Messages name the value, the limit and the remedy, and never contain private data.
"""


class DiqkdError(Exception):
    """Base of every error that this project raises on purpose."""

    exit_code = 1


class ParameterError(DiqkdError):
    """A parameter is out of range or does not fit the others."""

    exit_code = 2


class ProtocolAbort(DiqkdError):
    """The protocol ended without a key, as it must when a test fails: an honest outcome, not a crash."""

    exit_code = 3


class AuthenticationError(DiqkdError):
    """A tag did not verify: a message was changed on its way, or the two initial keys differ."""

    exit_code = 4


class RemoteProtocolError(DiqkdError):
    """The peer sent something that the protocol does not allow at this point."""

    exit_code = 4


class LocalProtocolError(DiqkdError):
    """A caller of this side requested what the protocol does not allow at this point."""


class InsufficientKeyError(DiqkdError):
    """The initial key is too short, or the part of it that is needed has been consumed."""

    exit_code = 5


class StorageError(DiqkdError):
    """A file is missing, unreadable, unsafe (permissions), of another run, or the disk is full."""

    exit_code = 6


class QrngFailure(DiqkdError):
    """The random number generator is missing, silent, or failed a health test: its bits may not be used."""

    exit_code = 6
