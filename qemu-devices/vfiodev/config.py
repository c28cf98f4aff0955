"""The configuration of a device host: a JSON file to a `HostConfig` (docs/devices/protocol.md)."""

import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vfiodev.device import Device
from vfiodev.errors import ConfigError

MAX_DEVICES: Final = 32
SOCKET_PATH_LIMIT: Final = 107
SAFE_INTERRUPTS: Final = "msix-own"
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_MODEL: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig:
    """One device: its name, the class of its model, the model's parameters."""

    name: str
    model: type[Device]
    params: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """What a host runs and where its files are."""

    directory: Path
    trace: Path
    seed: int
    devices: tuple[DeviceConfig, ...]


def load_config(path: Path) -> HostConfig:
    """Read and check; raises ConfigError with one line."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read '{path}': {error}") from error
    table = _table(data, "the configuration", {"dir", "trace", "seed", "devices"})
    directory, trace, seed = table["dir"], table["trace"], table["seed"]
    if not isinstance(directory, str) or not isinstance(trace, str):
        raise ConfigError("'dir' and 'trace' must be paths")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ConfigError("'seed' must be an integer")
    devices = table["devices"]
    if not isinstance(devices, list) or len(devices) > MAX_DEVICES:
        raise ConfigError(f"'devices' must be a list of at most {MAX_DEVICES}")
    made = tuple(_device(entry, Path(directory)) for entry in devices)
    names = [device.name for device in made]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"device '{name}' is there twice")
    return HostConfig(directory=Path(directory), trace=Path(trace), seed=seed, devices=made)


def find_model(name: str) -> type[Device]:
    """The model of a name: `MODEL` in the package `vfiodev.NAME`. Raises ConfigError."""
    if not _MODEL.fullmatch(name):
        raise ConfigError(f"model '{name}' is not known")
    try:
        module = importlib.import_module(f"vfiodev.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"vfiodev.{name}":
            raise
        raise ConfigError(f"model '{name}' is not known") from error
    model = getattr(module, "MODEL", None)
    if not isinstance(model, type) or not issubclass(model, Device):
        raise ConfigError(f"model '{name}' is not known")
    return model


def _table(data: object, what: str, keys: set[str]) -> dict[str, object]:
    if not isinstance(data, dict):
        raise ConfigError(f"{what} is not an object")
    if set(data) != keys:
        raise ConfigError(
            f"{what} must have the keys {', '.join(sorted(keys))}, not {', '.join(sorted(data))}"
        )
    return data


def _device(data: object, directory: Path) -> DeviceConfig:
    table = _table(data, "a device", {"name", "model", "params"})
    name, model, params = table["name"], table["model"], table["params"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"device name {name!r} is not lower-case letters, digits, '-' and '_'")
    if not isinstance(model, str) or not isinstance(params, dict):
        raise ConfigError(f"device '{name}': 'model' must be a name and 'params' an object")
    if len(str(directory / f"{name}.sock").encode()) > SOCKET_PATH_LIMIT:
        raise ConfigError(f"device '{name}': the path of its socket is longer than {SOCKET_PATH_LIMIT} bytes")
    return DeviceConfig(name=name, model=find_model(model), params={"interrupts": SAFE_INTERRUPTS, **params})
