"""Provisioning: from nothing to a toolbox, a kernel, a guest image, built modules and guest tools.

Everything is kept in one content-addressed cache (``$TESTBED_CACHE``, default ``~/.cache/testbed``).
`testbed.provision.setup.setup` makes all of it and returns a `testbed.provision.model.Provisioned`.
"""
