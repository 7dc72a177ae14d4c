"""Scenario of a demonstration: the parameters that both parties agree on, the link and its tampering."""

from __future__ import annotations

from dataclasses import dataclass, field

from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.protocol.errors import ParameterError, ProtocolAbort
from diqkd_postproc.protocol.parameters import ProtocolParameters
from sim_devices.adversaries.acceptance import smallest_caught_fraction
from sim_devices.adversaries.attacks import Attack
from sim_devices.apparatus.line_tampering import LineTampering
from sim_devices.laboratory.tampering import Tampering
from sim_devices.physics.link import LinkModel


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Parameters to agree on; the link and what was done to it. laboratory_seed: None for a secret one."""

    name: str
    parameters: ProtocolParameters
    link: LinkModel = field(default_factory=LinkModel)
    tampering: Tampering = field(default_factory=Tampering)
    laboratory_seed: int | None = None

    @property
    def laboratory(self) -> list[str]:
        """Options of the laboratory's program."""
        options = ["--link", self.link.kind, "--success-probability", str(self.link.success_probability)]
        options += ["--protocol", self.parameters.protocol]
        if self.laboratory_seed is not None:
            options += ["--seed", str(self.laboratory_seed)]
        tampering = self.tampering
        if tampering.local_fraction:
            options += ["--local-fraction", str(tampering.local_fraction)]
        if tampering.measured_fraction:
            options += ["--measured-fraction", str(tampering.measured_fraction)]
        if tampering.stuck_electrode:
            options += ["--stuck-electrode", tampering.stuck_electrode]
        lines = tampering.lines
        if lines.attack:
            options += ["--line-attack", lines.attack, "--line-attack-share", str(lines.share)]
            options += ["--strobe-delay", str(lines.delay_us)]
        return options


def requested_scenario(
    point: DesignPoint, link_kind: str, herald_probability: float, seed: int | None
) -> Scenario:
    """An untampered run at a design point.

    Args:
        point: design of the run, whose S and Q need not be those of the link.
        link_kind: `measured` (S = 2.677), `ideal` or `local`.
        herald_probability: of an entanglement attempt.
        seed: of the laboratory; None for a secret one.

    Raises ProtocolAbort where no key is possible, with the number of rounds that would do.
    """
    parameters = point.parameters()
    if not parameters.key_bits:
        needed = point.minimum_rounds()
        remedy = f"about {needed:,} would do" if needed else "no number of rounds would do"
        raise ProtocolAbort(
            f"no key is possible with {point.num_rounds:,} rounds at this design point: {remedy}"
        )
    try:
        link = LinkModel(link_kind, success_probability=herald_probability)
    except ValueError as error:
        raise ParameterError(f"--link, --herald-probability: {error}") from None
    return Scenario(
        name=f"the {link_kind} link",
        parameters=parameters,
        link=link,
        laboratory_seed=seed,
    )


# Of `strobe-delay`: late strobes are still within Alice's window, with the nodes' usual times.
STROBE_DELAY_US = 15.0


def tampering_of(attack: Attack, fraction: float | None, scenario: Scenario) -> Tampering:
    """What an attack does to the laboratory. fraction: of listed or attacked rounds; None for the smallest
    mixture that is caught, and all rounds of an attack on the lines."""
    if fraction is not None and attack.name != "mixture" and not attack.line_attack:
        raise ParameterError(
            "--fraction belongs to the attack mixture and to those on the lines between the nodes; "
            f"{attack.name} leaves no round out"
        )
    if fraction is not None and not 0.0 <= fraction <= 1.0:
        raise ParameterError(f"--fraction {fraction} is outside [0, 1]")
    if attack.line_attack:
        share = 1.0 if fraction is None else fraction
        return Tampering(lines=LineTampering(attack.line_attack, share, STROBE_DELAY_US))
    return _tampering_of_devices(attack.name, fraction, scenario)


def _tampering_of_devices(attack: str, fraction: float | None, scenario: Scenario) -> Tampering:
    if attack == "local-devices":
        return Tampering(local_fraction=1.0)
    if attack == "intercept":
        return Tampering(measured_fraction=1.0)
    if attack == "mixture":
        if fraction is None:
            fraction = smallest_caught_fraction(scenario.parameters, scenario.link)
        return Tampering(local_fraction=fraction)
    return Tampering(stuck_electrode="bob" if attack == "leaky-link" else "")
