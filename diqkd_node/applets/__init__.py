"""Live views for `artiq_dashboard`: what they show is computed in `run_view` and `score_view`, without Qt.

The applets themselves (`run_status`, `scores`) only draw. They need what every dashboard has, pyqtgraph and
Qt, and read public facts only: there is nothing else in the datasets (see `diqkd_node.run.public_facts`).
They stand outside the repository of experiments, which a master without a screen imports.
"""
