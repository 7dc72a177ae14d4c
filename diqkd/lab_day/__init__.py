"""Simulated day of an unattended laboratory: run, evaluation and figure."""
