"""Scenario: YAML text to a validated model, with a position for every mistake.

`load_scenario` is the way in: text -> `testbed.scenario.tree` (values with positions) -> parameters put in ->
`testbed.scenario.model` (shapes and types) -> `testbed.scenario.rules` (names that must fit together).
"""
