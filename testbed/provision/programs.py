"""Our own programs for guests, built in advance."""

from __future__ import annotations

from testbed.provision.model import Provisioned
from testbed.provision.modules import build_module, find_module
from testbed.provision.progress import Reporter
from testbed.provision.sources import MODULES
from testbed.provision.tools import build_tools, find_tools


def build_programs(reporter: Reporter, made: Provisioned) -> None:
    """Build our kernel modules and guest tools before a run needs them; what is there already is kept.

    Raises `ProvisionError` with the compiler's output when one does not compile.
    """
    if find_tools(made) is None:
        with reporter.task("guest tools"):
            build_tools(made)
    for source in sorted(path.parent for path in MODULES.glob("*/Kbuild")):
        if find_module(made, source) is None:
            with reporter.task(f"module {source.name} for {made.kernel.release}"):
                build_module(made, source)
