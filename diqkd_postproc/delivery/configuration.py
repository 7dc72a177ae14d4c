"""The configuration file of a key delivery service (TOML).

Paths are relative to the file. Unknown members are refused, so that a misspelt limit does not fall back to
its default in silence.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from diqkd_postproc.delivery.certificates import NameField
from diqkd_postproc.delivery.data_formats import KeyLimits
from diqkd_postproc.key_store.credentials import Credential, KeyFile, PassphraseFile, PassphrasePrompt
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.roles import Role

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("a name has 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit")
    return text


def _address(text: str) -> str:
    if not (match := _ADDRESS.fullmatch(text)) or int(match[2]) > 65535:
        raise ValueError("an address is HOST:PORT, for example 192.0.2.7:8443")
    return text


Name = Annotated[str, AfterValidator(_name)]
Address = Annotated[str, AfterValidator(_address)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Node(_Table):
    """[kme]: this service. peer: KME ID of the other node's. authority: who signs the certificates of SAEs.

    revocation_list: of that authority (PEM), read again whenever it changes. passphrase_file, key_file: what
    opens an encrypted key store, one of them; without either, its passphrase is read from the terminal.
    """

    id: Name
    peer: Name
    role: Role
    key_store: Path
    passphrase_file: Path | None = None
    key_file: Path | None = None
    audit_log: Path
    certificate: Path
    private_key: Path
    authority: Path
    revocation_list: Path | None = None

    def credential(self) -> Credential:
        """What opens the key store, if it is encrypted."""
        if self.passphrase_file is not None:
            return PassphraseFile(self.passphrase_file)
        return PassphrasePrompt(str(self.key_store)) if self.key_file is None else KeyFile(self.key_file)


class Api(_Table):
    """[api]: where SAEs connect, and what they may request (sizes in bits).

    sae_id_field: where an SAE's certificate has its name. max_key_per_request: keys in one request.
    max_connections, max_connections_per_sae: open TLS connections.
    """

    listen: Address
    sae_id_field: NameField = "common_name"
    key_size: int = Field(default=256, ge=8, multiple_of=8)
    min_key_size: int = Field(default=64, ge=8, multiple_of=8)
    max_key_size: int = Field(default=4096, le=65536, multiple_of=8)
    max_key_per_request: int = Field(default=128, ge=1, le=1024)
    max_connections: int = Field(default=256, ge=1, le=65536)
    max_connections_per_sae: int = Field(default=64, ge=1, le=65536)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min_key_size <= self.key_size <= self.max_key_size:
            raise ValueError("min_key_size <= key_size <= max_key_size does not hold")
        return self

    def limits(self) -> KeyLimits:
        """Limits of one request."""
        return KeyLimits(
            key_size=self.key_size,
            min_key_size=self.min_key_size,
            max_key_size=self.max_key_size,
            max_key_per_request=self.max_key_per_request,
        )


class Sae(_Table):
    """[[sae]]: an application. kme: at which KME it is; certificate_name: in the configured field.

    peers: the SAEs it may share keys with, by default all of the other KME. certificate_sha256: accept this
    one certificate only.
    """

    id: Name
    kme: Name
    certificate_name: str | None = None
    certificate_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    peers: tuple[Name, ...] | None = None


class DeliveryConfiguration(_Table):
    """Configuration of one KME: the whole file.

    Ids and certificate names are unique, every SAE is at one of the two KMEs, and peers are known SAEs;
    anything else is a validation error.
    """

    kme: Node
    api: Api
    sae: tuple[Sae, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _without_link(cls, document: Any) -> Any:
        if isinstance(document, dict) and "link" in document:
            raise ValueError(
                "the services need no [link] any more: remove it, and write peer = KME ID in [kme]"
            )
        return document

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kme.passphrase_file and self.kme.key_file:
            raise ValueError("give passphrase_file or key_file, not both")
        nodes = {self.kme.id, self.kme.peer}
        if len(nodes) != 2:
            raise ValueError("kme.id and kme.peer are the same")
        ids = [sae.id for sae in self.sae]
        names = [sae.certificate_name or sae.id for sae in self.sae]
        if len(set(ids)) != len(ids) or len(set(names)) != len(names):
            raise ValueError("two SAEs have the same id or certificate name")
        if nodes & (set(ids) | set(names)):
            raise ValueError("an SAE has the name of a KME")
        for sae in self.sae:
            if sae.kme not in nodes:
                raise ValueError(f"SAE {sae.id} is at {sae.kme}, which is neither kme.id nor kme.peer")
            if unknown := set(sae.peers or ()) - set(ids):
                raise ValueError(f"SAE {sae.id} names unknown peers: {', '.join(sorted(unknown))}")
        return self

    def peers_of(self, sae: str) -> list[str]:
        """The SAEs that one may share keys with."""
        return [other.id for other in self.sae if self.may_share(sae, other.id)]

    def may_share(self, master: str, slave: str) -> bool:
        """Whether these two SAEs, at different KMEs, may share keys.

        Each has to name the other, or to have no list of peers. Unknown SAEs may not.
        """
        found = {sae.id: sae for sae in self.sae}
        one, other = found.get(master), found.get(slave)
        if one is None or other is None or one.kme == other.kme:
            return False
        return (one.peers is None or slave in one.peers) and (other.peers is None or master in other.peers)


def load_configuration(path: Path) -> DeliveryConfiguration:
    """Read a configuration file, with paths resolved against its folder.

    Raises ParameterError that names the file, the member and what is wrong with it. The files that it names
    are not opened here.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParameterError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ParameterError(f"{path} is not TOML: {error}") from None
    try:
        configuration = DeliveryConfiguration.model_validate(document)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ParameterError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from None
    folder = path.absolute().parent
    paths = {name: value for name, value in configuration.kme if isinstance(value, Path)}
    resolved = {name: folder / value for name, value in paths.items()}
    return configuration.model_copy(update={"kme": configuration.kme.model_copy(update=resolved)})


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of an `Address`; IPv6 without its brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
