"""A live machine: `testbed.guest.session.guest_session` turns a `GuestPlan` into a `Guest`.

Nothing is imported here: the reaper must start in milliseconds.
"""
