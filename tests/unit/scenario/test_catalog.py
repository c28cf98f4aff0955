"""The catalogue of device models says what `vfiodev` itself declares."""

from __future__ import annotations

import pytest

from testbed.scenario.catalog import HOST_COUNTERS, INTERRUPTS, MODELS, Arg, Model
from vfiodev.config import SAFE_INTERRUPTS, find_model
from vfiodev.device import COUNTERS, INTERRUPT_KINDS, Description
from vfiodev.errors import ConfigError
from vfiodev.faults import GENERIC_KNOBS

MODEL_NAMES = sorted(MODELS)


def describe(model: Model, **params: object) -> Description:
    return find_model(model.name).describe(params)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_faults_and_their_arguments(name: str) -> None:
    knobs = (*GENERIC_KNOBS, *describe(MODELS[name]).knobs)
    declared = {
        knob.name: {arg.name: (arg.kind, arg.default, arg.minimum or 0) for arg in knob.args}
        for knob in knobs
    }
    ours = {
        fault.name: {
            arg.name: ("int" if arg.kind == "engine" else arg.kind, arg.default, arg.low)
            for arg in fault.args
        }
        for fault in MODELS[name].faults
    }
    assert ours == declared


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_counters(name: str) -> None:
    declared = {*COUNTERS, *describe(MODELS[name]).counters}
    assert set(MODELS[name].list_counters({})) == declared
    assert tuple(HOST_COUNTERS) == tuple(COUNTERS)


def test_counters_follow_the_number_of_engines() -> None:
    gpu = MODELS["gpu"]
    assert set(gpu.list_counters({"engines": 3})) == {*COUNTERS, *describe(gpu, engines=3).counters}


CANDIDATES = (0, 1, 2, 3, 8, 9, 63, 64, 4096, 4097, 8192, -1, 1.5, "1", True)
PARAMS = [(model, param) for model in MODELS.values() for param in model.params if param is not INTERRUPTS]


@pytest.mark.parametrize(("model", "param"), PARAMS, ids=lambda each: each.name)
@pytest.mark.parametrize("value", CANDIDATES)
def test_parameters_accept_the_same_values(model: Model, param: Arg, value: object) -> None:
    accepted = True
    try:
        describe(model, **{param.name: value})
    except ConfigError:
        accepted = False
    assert (param.complaint(value) is None) is accepted


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_no_other_parameter_is_known(name: str) -> None:
    with pytest.raises(ConfigError):
        describe(MODELS[name], nonsense=1)


def test_every_model_has_a_choice_of_interrupts() -> None:
    assert all(INTERRUPTS in model.params for model in MODELS.values())
    assert set(INTERRUPTS.words) == set(INTERRUPT_KINDS)
    assert INTERRUPTS.default == SAFE_INTERRUPTS
