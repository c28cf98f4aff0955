"""Steps: what a scenario asks for, carried out in live guests; one file per family of verbs."""
