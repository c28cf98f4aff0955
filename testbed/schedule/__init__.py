"""Many cases: in which order, how many at once, on which machine.

`testbed.schedule.series` says what of a run is kept and when it ends; an engine (`testbed.schedule.local`,
`testbed.schedule.dask_engine`) says where the cases run. ``docs/scheduling.md`` has the rules.
"""
