"""Assumptions of a key's security, as a report states them; the long form is docs/threat_model.md."""

from __future__ import annotations

ASSUMPTIONS: tuple[tuple[str, str], ...] = (
    (
        "Quantum theory holds",
        "No measurement predicts more than quantum theory allows. Nothing at all is assumed about ions, "
        "lasers, detectors or the heralding station: the Bell violation stands in for a model of them.",
    ),
    (
        "The laboratories are closed",
        "Nothing leaves a laboratory except the protocol's own messages and whether an ion is there, and "
        "nothing comes in that tells a device what it must not know before it has answered. While a round is "
        "measured the ion is out of the link's focus, and it is scrambled before it returns; whatever else "
        "remembers a setting or an outcome has no way to the fibre. That the hardware does so is for the "
        "laboratory to make sure.",
    ),
    (
        "A round keeps its order",
        "Both devices are isolated when the type of a round is announced, whoever owns the station and the "
        "lines. The nodes see to that with tokens. For proof `renyi` this is proven (docs/order.md); `paper` "
        "and `counted` assume it, with the tokens, compared in every test, as evidence.",
    ),
    (
        "The settings are random, fresh and private",
        "They are independent of everything before them and known to nobody until used. Health tests find a "
        "broken generator, not a malicious one.",
    ),
    (
        "The classical computers can be trusted",
        "They do what their programs say, keep the private files private and leak nothing by timing. That "
        "one may be made to fail at a chosen moment is paid for, by the late losses.",
    ),
    (
        "The initial key was uniform, shared and secret",
        "Its one-time pads are spent by this run and never used again; its seeds stay secret and reusable.",
    ),
    (
        "The devices are retired, or were not malicious",
        "A device that remembers this run could betray it in a later one. The proof covers one run.",
    ),
)
"""Headline and explanation of each assumption."""
