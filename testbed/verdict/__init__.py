"""Verdicts: a pure function of the run folder (`judge`), and the reports that are made of them."""
