"""Names of the proofs and the state of their review, as every report of a key states them."""

from __future__ import annotations

from collections.abc import Mapping

PROOF_STATUS: Mapping[str, str] = {
    "paper": "published: Nature 607, 682 (2022), Supplementary Information, Proposition 2",
    "counted": "derived for this project from the published Proposition 2, whose second accumulation it "
    "replaces by counting; not peer-reviewed",
    "renyi": "derived for this project and re-derived independently; not peer-reviewed",
}
