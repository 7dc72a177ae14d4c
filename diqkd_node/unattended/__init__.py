"""Unattended operation: calibrations between the rounds of a run, without an operator.

`calibration_graph` declares the calibrations, `drift_watch` compares public statistics, `decisions` decides,
`decision_log` records each decision with its reason, `state` keeps what a restart needs, `pause_connection`
carries the nodes' agreement, and `scheduled_work` submits experiments. None of them knows devices; the
experiment `lab_day.py` carries the decisions out.
"""
