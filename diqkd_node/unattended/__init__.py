"""The nodes' autonomy: calibrations between the rounds of a run, without an operator.

`calibration_graph` declares what there is to calibrate, `autonomy` decides, `drift_watch` looks at public
statistics, `decision_log` tells a reader why, and `autonomy_link` carries the nodes' agreement. None of them
knows devices; the experiment `lab_day.py` carries the decisions out.
"""
