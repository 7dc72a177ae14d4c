"""Key length in bits, with the proof that certifies it and the terms it consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLength:
    """A proven key length and where it comes from.

    bits: length of the key; 0 where the theorem gives none.
    value: the theorem's bound before rounding down, in bits; negative where there is no key.
    proof: name of the theorem; status: how far it has been reviewed.
    terms: the signed summands in bits; they add up to `value`.
    analysis: the theorem's free parameters that were used. Any choice is safe, the optimal one is longest.
    hash_error: collision probability of the universal hash that the soundness error accounts for.
    extractor_error: e_PA, the extractor's share of the soundness error.
    margin: bits subtracted before rounding down, a bound on the rounding errors of the evaluation.
    certificate: the arithmetic that the number rests on, in words.
    """

    bits: int
    value: float
    proof: str
    status: str
    terms: Mapping[str, float]
    analysis: Mapping[str, float]
    hash_error: float
    extractor_error: float
    margin: float
    certificate: str

    @property
    def one_bit_error(self) -> float:
        """Error e_PA / l of the one-bit extractor (SI Proposition 1); e_PA itself if there is no key.

        It fixes the field's degree and with it the length of Trevisan's seed.
        """
        return self.extractor_error / max(1, self.bits)

    def less_late_losses(self, max_late_losses: int) -> KeyLength:
        """The length that pays for `max_late_losses` rounds whose late loss was public, a bit each.

        Whoever guesses the outcomes with those of late losses set to 0 guesses those measured by adding as
        many uniform bits: the min-entropy is lower by one bit a round at most, and so is the Rényi entropy.
        """
        if max_late_losses == 0:
            return self
        return replace(
            self,
            bits=max(0, self.bits - max_late_losses),
            value=self.value - max_late_losses,
            terms={**self.terms, "late_losses": -float(max_late_losses)},
        )
