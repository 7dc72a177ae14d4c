"""Files of a tomography: states, fidelities and phases as JSON, and the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diqkd_postproc.link.tomography import Bootstrapped, TomographyResult
from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.report.tomography_figure import draw_tomography

RESULT_NAME, PICTURE_NAME, COUNTS_NAME = "tomography.json", "tomography.png", "tomography_counts.csv"


def as_dict(result: TomographyResult) -> dict[str, Any]:
    """Plain values, for JSON: complex matrices as real and imaginary parts.

    By pattern: heralds, fidelity, phase in radians, rho (4, 4), likelihood and its gap to the optimum;
    estimates with standard error, interval and bias.
    """
    patterns = {}
    for name, pattern in result.by_pattern.items():
        patterns[name] = {
            "num_heralds": pattern.state.num_counts,
            "fidelity": _bootstrapped(pattern.fidelity),
            "phase_rad": _bootstrapped(pattern.phase),
            "rho_real": pattern.state.rho.real.tolist(),
            "rho_imag": pattern.state.rho.imag.tolist(),
            "log_likelihood": pattern.state.log_likelihood,
            "log_likelihood_gap": pattern.state.log_likelihood_gap,
            "num_iterations": pattern.state.num_iterations,
        }
    return {
        "mean_fidelity": _bootstrapped(result.mean_fidelity),
        "num_resamples": result.num_resamples,
        "patterns": patterns,
    }


def _bootstrapped(quantity: Bootstrapped) -> dict[str, float]:
    return {
        "value": quantity.value,
        "standard_error": quantity.standard_error,
        "low": quantity.interval.low,
        "high": quantity.interval.high,
        "bias": quantity.bias,
    }


def write_results(result: TomographyResult, folder: Path, provenance: dict[str, Any]) -> dict[str, str]:
    """Write JSON and picture into a folder; returns their names. Raises StorageError.

    Keys `result` (JSON, with provenance) and `picture` (PNG). The folder is created; existing files are
    replaced.
    """
    document = {"name": "tomography", "provenance": provenance} | as_dict(result)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULT_NAME).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write results into {folder}: {error.strerror}") from None
    draw_tomography(result, folder / PICTURE_NAME, provenance)
    return {"result": str(folder / RESULT_NAME), "picture": str(folder / PICTURE_NAME)}
