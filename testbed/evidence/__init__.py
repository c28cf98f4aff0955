"""Evidence: the run folder (``docs/evidence.md``), its event log, and pure parsers of what is in it."""
