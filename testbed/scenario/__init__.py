"""Scenario: YAML text to a validated model, with a position for every mistake.

`load_scenario` is the way in: text -> `testbed.scenario.tree` (values with positions) -> parameters put in ->
`testbed.scenario.document` (shapes and types) -> `testbed.scenario.rules` (what must fit together).
"""

from testbed.scenario.load import load_scenario

__all__ = ["load_scenario"]
