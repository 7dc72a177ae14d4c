"""Building blocks of the DIQKD experiments: one class a step of a round."""
