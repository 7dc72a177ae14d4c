"""TLS contexts: version 1.2 or later, both sides present a certificate, nothing is resumed or renegotiated.

Without session tickets every connection is checked against the authority anew. Cipher suites are those with
forward secrecy and authenticated encryption.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from diqkd_postproc.files import check_private_file
from diqkd_postproc.protocol.errors import StorageError

_CIPHERS_TLS_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"


def service_context(
    certificate: Path, private_key: Path, authority: Path, revocation_list: Path | None = None
) -> ssl.SSLContext:
    """For the side that listens; a client without a certificate of `authority` gets no connection.

    Arguments are PEM files; the private key has to be a private file. With a revocation list of `authority`,
    a certificate that is in it gets none either, and nobody does when the list is out of date. Raises
    StorageError where one is unreadable or they do not fit together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    if revocation_list is not None:
        try:
            context.load_verify_locations(revocation_list)
        except ssl.SSLError:
            raise StorageError(f"{revocation_list} is not a revocation list in PEM form") from None
        except OSError as error:
            raise StorageError(
                f"cannot read the revocation list {revocation_list}: {error.strerror}"
            ) from None
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return _finished(context, certificate, private_key, authority)


def client_context(certificate: Path, private_key: Path, authority: Path) -> ssl.SSLContext:
    """For the side that connects; it checks the name of the host as well as the authority.

    Arguments and errors as `service_context`.
    """
    return _finished(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, private_key, authority)


def _finished(
    context: ssl.SSLContext, certificate: Path, private_key: Path, authority: Path
) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(_CIPHERS_TLS_1_2)
    check_private_file(private_key)
    try:
        context.load_verify_locations(authority)
        context.load_cert_chain(certificate, private_key)
    except ssl.SSLError as error:
        raise StorageError(
            f"{certificate}, {private_key} and {authority} are not a certificate, its key and an authority "
            f"in PEM form: {(error.reason or 'unreadable').replace('_', ' ').lower()}"
        ) from None
    except OSError as error:
        raise StorageError(
            f"cannot read {certificate}, {private_key} or {authority}: {error.strerror}"
        ) from None
    return context
