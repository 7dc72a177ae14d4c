"""X.509 certificates: identity of a presented one, and a small authority for a trial on one machine.

Which name counts is configured, one of `common_name` (of the subject), `uri` or `dns` (of the subject
alternative names). A certificate names its owner only if that field has exactly one value: of two, one could
be meant for us and the other for whoever signed. OpenSSL has verified
chain, dates and key usage before anything here is called.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from diqkd_postproc.files import make_private_directory, replace_atomically, storage_error
from diqkd_postproc.protocol.errors import StorageError

NameField = Literal["common_name", "uri", "dns"]
CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentedCertificate:
    """What a certificate says. name: None unless it has exactly one in the field that counts."""

    name: str | None
    serial_number: int
    not_valid_after: datetime
    sha256: str


def read_certificate(certificate: bytes, field: NameField) -> PresentedCertificate:
    """Facts of a certificate (DER) that a verified chain vouches for.

    field: where the name is: the subject's common name, or a URI or DNS name among the alternatives. Nothing
    is verified here; TLS has verified the chain. Raises ValueError for what is no certificate.
    """
    parsed = x509.load_der_x509_certificate(certificate)
    names = _names(parsed, field)
    return PresentedCertificate(
        name=names[0] if len(names) == 1 else None,
        serial_number=parsed.serial_number,
        not_valid_after=parsed.not_valid_after_utc,
        sha256=hashlib.sha256(certificate).hexdigest(),
    )


def _names(parsed: x509.Certificate, field: NameField) -> list[str]:
    try:
        if field == "common_name":
            return [str(item.value) for item in parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        kind = x509.UniformResourceIdentifier if field == "uri" else x509.DNSName
        extension = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return list(extension.value.get_values_for_type(kind))
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return []


def revoked_serial_numbers(revocation_list: Path, authority: Path) -> frozenset[int]:
    """Serial numbers in a revocation list that `authority` has signed (PEM files).

    Raises StorageError where a file cannot be read or the signature is another's.
    """
    try:
        revoked = x509.load_pem_x509_crl(revocation_list.read_bytes())
        public = x509.load_pem_x509_certificate(authority.read_bytes()).public_key()
        is_signed = revoked.is_signature_valid(public)  # type: ignore[arg-type]
    except OSError as error:
        raise storage_error("read", revocation_list, error) from None
    except (ValueError, TypeError):
        is_signed = False
    if not is_signed:
        raise StorageError(f"{revocation_list} is not a revocation list that {authority} has signed")
    return frozenset(item.serial_number for item in revoked)


class TrialAuthority:
    """A certificate authority for trials: its private key exists in this process only, never in a file.

    P-256 keys, signatures with SHA-256; certificates are valid from five minutes ago, for clocks that
    differ, for `valid_days` days.
    """

    def __init__(self, name: str, valid_days: int = 30) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._from = datetime.now(UTC) - CLOCK_SKEW
        self._until = self._from + timedelta(days=valid_days)
        public = self._key.public_key()
        usage = _key_usage(sign_certificates=True)
        self.certificate = (
            self._builder(self._name, public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def write(self, path: Path) -> None:
        """Write the authority's certificate (PEM)."""
        replace_atomically(path, self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        directory: Path,
        name: str,
        *,
        is_service: bool,
        hosts: Sequence[str] = (),
        common_names: Sequence[str] | None = None,
    ) -> None:
        """Write NAME.crt and NAME.key (PEM, private) into `directory`.

        hosts: names and addresses by which clients reach a service. common_names: of the subject, by
        default `name`. The certificate of a client cannot be used as that of a service.
        """
        make_private_directory(directory)
        key = ec.generate_private_key(ec.SECP256R1())
        names = (name,) if common_names is None else common_names
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text) for text in names])
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + [ExtendedKeyUsageOID.SERVER_AUTH] * is_service
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        alternatives = [x509.UniformResourceIdentifier(f"urn:diqkd:{name}"), *map(_general_name, hosts)]
        certificate = (
            self._builder(subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(authority, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        replace_atomically(directory / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        replace_atomically(
            directory / f"{name}.key", key.private_bytes(encoding, form, serialization.NoEncryption())
        )

    def _builder(self, subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(int.from_bytes(os.urandom(16), "big") >> 1)
            .not_valid_before(self._from)
            .not_valid_after(self._until)
        )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )
