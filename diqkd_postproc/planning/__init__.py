"""From a link to the parameters of a run: test probability, number of rounds, cost and chances."""
