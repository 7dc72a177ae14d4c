"""The balance of shared secret bits of a run: Table 1 of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """One step of the balance sheet, in bits."""

    step: str
    consumed: int
    used_reusable: int
    generated: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class BalanceSheet:
    """Shared secret bits spent and gained: Table 1 of the paper.

    proof, proof_status: on which theorem the generated key rests, and how far that has been reviewed.
    """

    rows: tuple[BalanceRow, ...]
    k0_bits: int
    k1_bits: int
    proof: str
    proof_status: str

    @property
    def consumed(self) -> int:
        """Bits of K0 that are gone."""
        return sum(row.consumed for row in self.rows)

    @property
    def used_reusable(self) -> int:
        """Bits of K0 that were used and remain secret."""
        return sum(row.used_reusable for row in self.rows)

    @property
    def generated(self) -> int:
        """Bits of new key."""
        return sum(row.generated for row in self.rows)

    @property
    def net_gain(self) -> int:
        """Generated minus consumed, equal to K1 - K0."""
        return self.generated - self.consumed

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        rows = [
            {
                "step": row.step,
                "consumed": row.consumed,
                "used_reusable": row.used_reusable,
                "generated": row.generated,
                "note": row.note,
            }
            for row in self.rows
        ]
        totals = {"k0_bits": self.k0_bits, "k1_bits": self.k1_bits, "net_gain": self.net_gain}
        proof = {"proof": self.proof, "proof_status": self.proof_status}
        return {"rows": rows, "consumed": self.consumed, "generated": self.generated, **totals, **proof}


def balance_of(
    consumed: Mapping[str, int],
    generated: int,
    *,
    hash_seed_bits: int,
    extractor_seed_bits: int,
    node_link_bits: int,
    k0_bits: int,
    proof: str,
    proof_status: str,
) -> BalanceSheet:
    """The sheet of one initial key, from the bits that were consumed of each pad (`pad_ec` and so on)."""
    hashed_ec, hashed = consumed["pad_ec"] > 0, any(consumed.values())
    same = "the same hash seed"
    rows = (
        BalanceRow("acquisition: nodes' connection", 0, node_link_bits * hashed, 0),
        BalanceRow("validation of error correction", consumed["pad_ec"], hash_seed_bits * hashed_ec, 0),
        BalanceRow(
            "authentication",
            consumed["pad_a"] + consumed["pad_b"],
            hash_seed_bits * (hashed and not hashed_ec),
            0,
            same if hashed_ec else "",
        ),
        BalanceRow("key activation", consumed["pad_f"], 0, 0, same if hashed else ""),
        BalanceRow("privacy amplification", 0, extractor_seed_bits * (generated > 0), generated),
    )
    k1_bits = k0_bits - sum(consumed.values()) + generated
    return BalanceSheet(rows=rows, k0_bits=k0_bits, k1_bits=k1_bits, proof=proof, proof_status=proof_status)
