"""Where this project keeps what runs in the guest."""

from __future__ import annotations

from pathlib import Path

GUEST_IMAGES = Path(__file__).parents[2] / "guest-images"
INIT = GUEST_IMAGES / "init"
MODULES = GUEST_IMAGES / "modules"
RECIPE = GUEST_IMAGES / "recipes" / "base.toml"
TOOLS = GUEST_IMAGES / "tools"
UAPI = GUEST_IMAGES / "uapi"
