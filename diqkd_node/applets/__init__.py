"""Applets of `artiq_dashboard`: live views of a run and of a characterisation.

`run_view` and `score_view` compute the content without Qt; `run_status` and `scores` draw it with pyqtgraph,
which every dashboard has. They read public facts only: the datasets hold nothing else (see
`diqkd_node.run.public_facts`).
"""
