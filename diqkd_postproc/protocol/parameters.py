"""Parameters that both parties fix before the first round (PROTOCOL step 0; SI section S4).

A `ProtocolParameters` is immutable and validated; its digest is compared between the nodes before the
first round and again before post-processing, so that a disagreement is an error on both sides.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.protocol.length_rule import FreeParameters, LengthKind, LengthRule
from diqkd_postproc.protocol.proof_status import PROOF_STATUS
from diqkd_postproc.protocol.roles import lost_test_probability

SYNDROME_CODE_SEED = 20210929

ProofName = Literal["paper", "counted", "renyi"]
BoundName = Literal["simple", "full", "closed", "exact"]
ExtractorName = Literal["trevisan", "toeplitz"]
ProtocolName = Literal["ordered", "late-type"]
"""Order of a round (docs/order.md): the published one with tokens, or measure first (two key bases)."""


MAX_INCREMENTS = 8
"""J: parts in which a syndrome can be sent, the first included."""

YOUNGER_FIELDS: dict[str, Any] = {
    "protocol": "ordered",
    "end_token": False,
    "max_late_losses": 0,
    "length": "fixed",
    "increments": (),
}

KEYLESS: dict[str, Any] = {
    "omega_threshold": 0.75,
    "syndrome_bits": 1,
    "key_bits": 0,
    "soundness_error": 0.5,
    "one_bit_error": 0.5,
    "design_chsh_score": 2.0,
    "design_qber": 0.0,
}
"""Fields of a run in which nothing is tested, corrected or extracted, and which makes no key."""


class ProtocolParameters(BaseModel):
    """Parameters of one protocol run, public, equal at both nodes.

    The test probability is the exact fraction `test_numerator / 2**test_bits`, because Bob draws a round
    type by comparing `test_bits` random bits with `test_numerator`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_rounds: int = Field(ge=1, le=100_000_000, description="n, heralded rounds")
    test_numerator: int = Field(ge=1, description="k of gamma = k / 2**b")
    test_bits: int = Field(ge=1, le=16, description="b of gamma = k / 2**b")
    omega_threshold: float = Field(gt=0.5, lt=1.0, description="CHSH winning probability to accept")
    syndrome_bits: int = Field(ge=1, description="m, length of the syndrome, bits")
    key_bits: int = Field(
        ge=0,
        description="length of the extracted key, bits; of a variable length, the most that the hash has "
        "rows for (l_cap); 0 where no key is possible",
    )
    soundness_error: float = Field(gt=0.0, lt=1.0)
    one_bit_error: float = Field(
        gt=0.0,
        lt=1.0,
        description="e_PA / l: error of Trevisan's one-bit extractor; Toeplitz has no use for it",
    )
    design_chsh_score: float = Field(description="S for which decoder and threshold were designed")
    design_qber: float = Field(ge=0.0, le=0.5, description="Q for which decoder and threshold were designed")
    design_second_qber: float | None = Field(
        default=None, ge=0.0, le=0.5, description="`late-type`: Q of the key rounds with x = 1"
    )
    proof: ProofName = "paper"
    bound: BoundName | None = Field(default=None, description="`renyi` only: which bound of a round")
    extractor: ExtractorName = "trevisan"
    length: LengthKind = Field(
        default="fixed", description="`renyi` only: `variable` lets the length follow from public counts"
    )
    constant_bits: int | None = Field(default=None, description="C of the theorem, rounded down, bits")
    free_parameters: FreeParameters | None = Field(
        default=None, description="of the bounds `exact` and `closed`, and of every variable length"
    )
    increments: tuple[int, ...] = Field(
        default=(),
        max_length=MAX_INCREMENTS - 1,
        description="m_2 < ... < m_J: length of the syndrome after each further increment, bits",
    )
    max_tests: int | None = Field(
        default=None, ge=0, description="`counted` only: N*, the most test rounds that are accepted"
    )
    protocol: ProtocolName = "ordered"
    end_token: bool = Field(
        default=False,
        description="Alice reconnects only after a third token, which Bob releases once he has measured: "
        "his laboratory then does not have to be closed against light coming in",
    )
    max_late_losses: int = Field(
        default=0,
        ge=0,
        description="rounds without an outcome of Alice's whose types may be public, at one bit of key each",
    )
    code_seed: int = Field(default=SYNDROME_CODE_SEED, ge=0, description="seed of the code construction")
    code_design: str | None = Field(
        default=None,
        max_length=10_000,
        description="ensemble of the code: name of a shipped one, or its JSON; None: chosen by the channel",
    )

    @model_validator(mode="before")
    @classmethod
    def _take_old_names(cls, values: Any) -> Any:
        if isinstance(values, dict) and "max_voided" in values:
            values = dict(values)
            values["max_late_losses"] = values.pop("max_voided")
        return values

    @model_validator(mode="after")
    def _check(self) -> ProtocolParameters:
        if self.test_numerator >= 2**self.test_bits:
            raise ValueError(
                f"test probability {self.test_numerator}/2^{self.test_bits} is not below 1; "
                "lower test_numerator"
            )
        if self.syndrome_bits >= self.num_rounds:
            raise ValueError(
                f"syndrome_bits={self.syndrome_bits} is not below num_rounds={self.num_rounds}: "
                "the syndrome would reveal every outcome"
            )
        if not 2.0 <= self.design_chsh_score <= 2 * math.sqrt(2):
            raise ValueError(f"design_chsh_score={self.design_chsh_score} is outside [2, 2*sqrt(2)]")
        if (self.bound is not None) != (self.proof == "renyi"):
            raise ValueError(
                f"bound={self.bound!r} with proof={self.proof!r}: `renyi` needs it, others have none"
            )
        if self.extractor == "toeplitz" and self.proof != "renyi":
            raise ValueError(f"extractor 'toeplitz' needs proof 'renyi', not {self.proof!r}; take 'trevisan'")
        if (self.max_tests is not None) != (self.proof == "counted"):
            raise ValueError(
                f"max_tests={self.max_tests} with proof={self.proof!r}: `counted` needs it, others have none"
            )
        self._check_rule()
        if self.max_late_losses >= self.num_rounds:
            raise ValueError(
                f"max_late_losses={self.max_late_losses} is not below num_rounds={self.num_rounds}; lower it"
            )
        if self.protocol == "late-type" and self.proof != "renyi" and self.key_bits > 0:
            raise ValueError(
                f"protocol 'late-type' has two key bases, for which proof {self.proof!r} says nothing; "
                "take proof 'renyi', or protocol 'ordered'"
            )
        return self

    def _check_rule(self) -> None:
        needs_rule = self.length == "variable" or self.bound in ("exact", "closed")
        if needs_rule != (self.free_parameters is not None) or needs_rule != (self.constant_bits is not None):
            raise ValueError(
                f"length={self.length!r} with bound={self.bound!r} "
                + ("needs" if needs_rule else "has no")
                + " constant_bits and free_parameters; write the file anew with `diqkd plan`"
            )
        if needs_rule and self.proof != "renyi":
            raise ValueError(f"length {self.length!r} is proven with proof 'renyi' only, not {self.proof!r}")
        totals = self.syndrome_totals
        if any(a >= b for a, b in pairwise(totals)) or totals[-1] >= self.num_rounds:
            raise ValueError(
                f"increments={list(self.increments)} do not rise from syndrome_bits={self.syndrome_bits} "
                f"to less than num_rounds={self.num_rounds}"
            )
        if self.increments and not needs_rule:
            raise ValueError("increments need bound 'exact' or 'closed', or a variable length")

    @property
    def syndrome_totals(self) -> tuple[int, ...]:
        """m_1 < ... < m_J: length of the syndrome after each increment, bits."""
        return (self.syndrome_bits, *self.increments)

    @property
    def length_rule(self) -> LengthRule | None:
        """How the key's length follows from public counts; None where it is `key_bits`, whatever they are."""
        if self.free_parameters is None or self.constant_bits is None:
            return None
        return LengthRule(
            length=self.length,
            extractor=self.extractor,
            num_rounds=self.num_rounds,
            free=self.free_parameters,
            constant_bits=self.constant_bits,
            syndrome_bits=self.syndrome_totals,
            max_losses=self.max_losses,
            max_late_losses=self.max_late_losses,
            key_cap=self.key_bits,
        )

    @property
    def gamma(self) -> Fraction:
        """Test probability, exact: test_numerator / 2^test_bits.

        A fraction, because Bob decides by comparing test_bits random bits with the numerator.
        """
        return Fraction(self.test_numerator, 2**self.test_bits)

    @property
    def max_losses(self) -> int:
        """L, the most lost test rounds that are accepted: floor(n gamma (1 - omega_thr)), SI S4 step 8."""
        return math.floor(self.num_rounds * self.gamma * (1 - Fraction(self.omega_threshold)))

    @property
    def proof_label(self) -> str:
        """Proof, bound and extractor on which the key rests, in words."""
        length = "variable" if self.length == "variable" else None
        return " ".join(filter(None, (self.proof, self.bound, self.extractor, length)))

    @property
    def proof_status(self) -> str:
        """How far the proof has been reviewed."""
        return PROOF_STATUS[self.proof]

    @property
    def design_test_error(self) -> float:
        """Probability that a test round is lost at the design point: (4 - S) / 8."""
        return lost_test_probability(self.design_chsh_score)

    @property
    def random_bits_per_round(self) -> dict[str, int]:
        """Random bits that each role consumes a round: x and the token r; round type, y and the end token."""
        return {"alice": 2, "bob": self.test_bits + 1 + int(self.end_token)}

    def canonical(self) -> bytes:
        """Deterministic byte string of all fields that have a value: what is hashed and compared.

        Fields that are younger than the format are left out where they have their first value, so that older
        files keep their digest.
        """
        return "\n".join(f"{k}={v!r}" for k, v in sorted(self._values().items())).encode()

    def _values(self) -> dict[str, Any]:
        values = self.model_dump(exclude_none=True)
        return {name: value for name, value in values.items() if YOUNGER_FIELDS.get(name) != value}

    @property
    def digest(self) -> str:
        """SHA-256 of `canonical()`, hexadecimal.

        Spool, record and key store keep it, and the two sides compare it before a session.
        """
        return hashlib.sha256(self.canonical()).hexdigest()

    def to_toml(self) -> str:
        """TOML text, one `key = value` a line, read back by `from_toml`."""

        def literal(value: Any) -> str:
            if isinstance(value, tuple):
                return repr(list(value))
            return json.dumps(value) if isinstance(value, str | bool) else repr(value)

        values = self._values()
        tables = {key: values.pop(key) for key, value in list(values.items()) if isinstance(value, dict)}
        lines = ["# diqkd protocol parameters; must be the same file at both nodes"]
        lines += [f"{key} = {literal(value)}" for key, value in values.items()]
        for name, table in tables.items():
            lines += ["", f"[{name}]", *(f"{key} = {literal(value)}" for key, value in table.items())]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, text: str) -> ProtocolParameters:
        """Parse and validate; raises ParameterError naming every offending field."""
        try:
            return cls(**tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ParameterError(f"not a TOML file: {error}") from None
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'parameters'}: {e['msg']}" for e in error.errors()
            )
            raise ParameterError(f"invalid protocol parameters: {problems}") from None

    @classmethod
    def load(cls, path: Path | str) -> ProtocolParameters:
        """Read a parameter file (TOML).

        Raises ParameterError if it is missing or invalid, naming every offending field.
        """
        try:
            return cls.from_toml(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ParameterError(f"cannot read parameter file {path}: {error}") from None

    def save(self, path: Path | str) -> None:
        """Write the parameter file (TOML), which is public and has to be the same at both nodes.

        Raises StorageError.
        """
        try:
            Path(path).write_text(self.to_toml(), encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot write parameter file {path}: {error.strerror}") from None
