"""Plan: a scenario and facts about this host to cases that say all that will be done; pure, no I/O."""
