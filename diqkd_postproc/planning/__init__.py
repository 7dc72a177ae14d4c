"""Planning of a run: its test probability, number of rounds, cost and chances, for an expected link.

>>> from diqkd_postproc.planning.design_point import DesignPoint
>>> from diqkd_postproc.planning.plan import make_plan
>>> plan = make_plan(DesignPoint(num_rounds=2_000_000, chsh_score=2.64, qber=0.018), optimise_gamma=True)
>>> plan.parameters.gamma, plan.parameters.key_bits
(Fraction(15, 256), 224861)
"""
