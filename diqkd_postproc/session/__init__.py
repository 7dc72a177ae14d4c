"""Post-processing between the two parties: a sans-IO engine and its transports."""
