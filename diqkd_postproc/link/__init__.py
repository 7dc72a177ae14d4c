"""Quality of the link between the two ions: CHSH score, bit error rate, timeline, state tomography.

For characterisation runs, whose outcomes are shared, and for Bob after reconciliation.

>>> from diqkd_postproc.link.statistics import chsh_score, qber
>>> x, y = [0, 0, 1, 1], [0, 1, 0, 1]
>>> chsh_score(x, y, a=[0, 0, 0, 0], b=[0, 0, 0, 1]).value
4.0
>>> qber([0] * 4, [2] * 4, a=[0, 1, 1, 0], b=[0, 1, 0, 0]).value
0.25
"""
