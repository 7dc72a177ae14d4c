"""A task small enough for many frames a second."""

from fractions import Fraction

import pytest

from diqkd_postproc.reconciliation.code_design.task import FrameTask
from diqkd_postproc.reconciliation.ensemble import ENSEMBLES


@pytest.fixture
def task() -> FrameTask:
    return FrameTask(
        num_rounds=2000,
        syndrome_bits=520,
        gamma=Fraction(13, 256),
        chsh_score=2.64,
        qber=0.018,
        true_chsh_score=2.64,
        true_qber=0.018,
        ensemble=ENSEMBLES["robust"],
    )
