"""testbed: a virtual hardware lab for Linux kernel people.

The packages in reading order tell the story of one case:
scenario (YAML text to a model) -> plan (what will be done, pure) -> guest (a live machine) ->
steps (what the scenario asks for) -> evidence (the run folder) -> verdict (a pure function of it).
"""

__version__ = "0.1.0"
