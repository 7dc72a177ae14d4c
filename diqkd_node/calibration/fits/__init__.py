"""Evaluation of a node's calibration scans: fits with errors, for results and for the configuration.

Everything here is host-side and knows neither devices nor ARTIQ; the scans themselves are in
`diqkd_node.calibration`. Data flows from counts to `count_fit`, from there to one module for each physical
model, and through `result` to figures and to the node's configuration (`application`).
"""
