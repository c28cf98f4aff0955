"""What tests with real guests share: a prepared lab."""

from __future__ import annotations

import sys

import pytest
from rich.console import Console

from testbed.guest.accel import Accel, probe_accel
from testbed.provision.model import Provisioned
from testbed.provision.progress import start_reporter
from testbed.provision.setup import setup


@pytest.fixture(scope="session")
def provisioned() -> Provisioned:
    """Toolbox, kernel and image; made when they are missing."""
    with start_reporter(Console(file=sys.__stderr__)) as reporter:
        return setup(reporter)


@pytest.fixture(scope="session")
def accel(provisioned: Provisioned) -> Accel:
    """The accelerator that works here."""
    return probe_accel("auto", qemu=provisioned.qemu, cache=provisioned.cache)
