"""The configuration of a node as a whole: its sections, what must hold between them, and its file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator
from pydantic_core import ErrorDetails

from diqkd_node.configuration.analysis import AnalysisParameters
from diqkd_node.configuration.attempts import AttemptParameters
from diqkd_node.configuration.batches import BatchParameters, IonWatchParameters
from diqkd_node.configuration.flat_names import by_section, field_name
from diqkd_node.configuration.handshake import HandshakeParameters, LineParameters
from diqkd_node.configuration.isolation import IsolationParameters
from diqkd_node.configuration.light import (
    BeamParameters,
    CoolingParameters,
    ReadoutParameters,
    ScramblingParameters,
    StatePreparationParameters,
)
from diqkd_node.configuration.quantities import Step
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.roles import Role


class NodeConfiguration(Step):
    """Parameters of every step of one node. Units: s, Hz, turns of phase, V, dB of attenuation.

    The file is JSON, {section: {field: value}}, of what differs from the defaults; files from before there
    were sections still open (`flat_names`). A calibration names a field as SECTION.FIELD.
    """

    role: Role
    attempts: AttemptParameters = AttemptParameters()
    cooling: CoolingParameters = CoolingParameters()
    handshake: HandshakeParameters = HandshakeParameters()
    analysis: AnalysisParameters = AnalysisParameters()
    isolation: IsolationParameters = IsolationParameters()
    lines: LineParameters = LineParameters()
    state_preparation: StatePreparationParameters = StatePreparationParameters()
    readout: ReadoutParameters = ReadoutParameters()
    scrambling: ScramblingParameters = ScramblingParameters()
    ion_watch: IonWatchParameters = IonWatchParameters()
    beams: BeamParameters = BeamParameters()
    batches: BatchParameters = BatchParameters()

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        handshake, attempts, cooling = self.handshake, self.attempts, self.cooling
        ready_period = handshake.ready_interval + handshake.latency + cooling.time
        if handshake.ready_gate <= ready_period:
            raise ValueError(
                f"handshake.ready_gate={handshake.ready_gate} s must exceed the time between two of Alice's "
                f"edges, ready_interval + latency + cooling.time = {ready_period:.6f} s; lengthen it"
            )
        search_time = attempts.windows_per_search * (
            attempts.window_time + cooling.time + cooling.recooling_delay
        )
        if search_time > self.batches.check_interval:
            raise ValueError(
                f"attempts.windows_per_search={attempts.windows_per_search} takes {search_time:.3f} s, above "
                f"batches.check_interval={self.batches.check_interval} s; lower it"
            )
        return self

    def value(self, field: str) -> Any:
        """Value of a field by its name, SECTION.FIELD, as it is used."""
        section, _, name = field_name(field).partition(".")
        step: Step = getattr(self, section)
        return step.value(name)

    @classmethod
    def field_names(cls) -> list[str]:
        """Names of all fields, SECTION.FIELD."""
        document = cls(role="alice").model_dump(exclude={"role"})
        return [f"{section}.{field}" for section, fields in document.items() for field in fields]

    def with_fields(self, values: Mapping[str, Any]) -> Self:
        """This configuration with other values of the fields named in `values`. Raises ParameterError."""
        return self.of(self.role, changed(self.model_dump(), values))

    def to_json(self) -> str:
        """All fields as indented JSON."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"

    def differences(self) -> dict[str, Any]:
        """Fields that have not their default, by section, as JSON has them."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"role"})

    @classmethod
    def of(cls, role: str, values: Mapping[str, Any]) -> Self:
        """A node's configuration from values by section or by the name of a field, defaults elsewhere.

        Raises ParameterError, in one line that names fields, values, limits and remedies.
        """
        document = by_section(values)
        if document.setdefault("role", role) != role:
            raise ParameterError(f"the node configuration is {document['role']}'s, but this node is {role}")
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            problems = "; ".join(map(_problem, error.errors(include_url=False)))
            raise ParameterError(f"in the node configuration, {problems}") from None

    @classmethod
    def from_json(cls, text: str, role: str) -> Self:
        """The configuration in a JSON document. Raises ParameterError."""
        return cls.of(role, parse(text))

    @classmethod
    def load(cls, path: str | Path, role: str, overrides: Mapping[str, Any] | None = None) -> Self:
        """Read a JSON file; an empty path gives the defaults.

        :param overrides: values by the names of fields, which go before those of the file
        :raises ParameterError: no such file, or not the configuration of this role
        """
        try:
            values = parse(Path(path).read_text(encoding="utf-8")) if str(path) else {}
        except (OSError, UnicodeDecodeError) as error:
            raise ParameterError(f"cannot read the node configuration {path}: {error}") from None
        return cls.of(role, changed(values, overrides or {}))


def parse(text: str) -> dict[str, Any]:
    """The JSON object of a configuration file, not validated. Raises ParameterError."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ParameterError(f"the node configuration is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ParameterError("the node configuration must be a JSON object of sections")
    return values


def changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The document `values`, by section, with other values of the fields named in `changes`."""
    document = by_section(values)
    for name, value in changes.items():
        section, _, field = field_name(name).partition(".")
        if isinstance(known := document.setdefault(section, {}), dict):
            known[field] = value
    return document


def _problem(error: ErrorDetails) -> str:
    """One entry of pydantic's list of errors, in words."""
    path, value, kind = ".".join(map(str, error["loc"])), error["input"], error["type"]
    message = error["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return f"{path} is no field; correct its name or remove it"
    if kind == "missing":
        return f"{path} is missing; give a value"
    if isinstance(value, dict | Step):  # a rule between fields, which names them and their values
        return f"{path}: ".removeprefix(": ") + message
    if kind == "value_error":
        return f"{path}={value!r} {message}"
    return f"{path}={value!r}: {message.replace('tuple', 'list').replace('Tuple', 'List')}"
