"""What the LRP benchmarks time: rules, presets and gradient methods, what says the same in the libraries, targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sidelight_engines.lrp import (
    AlphaBeta,
    AlphaBetaX,
    Epsilon,
    Flat,
    Gamma,
    GradientKind,
    GradientMethod,
    LrpParameters,
    LrpPreset,
    RuleMap,
    Sign,
    WSquare,
    ZBox,
)
from sidelight_engines.lrp.rules import Rule

Said = tuple[str, dict[str, Any]]
"""What a library calls it, and the arguments."""


@dataclass(frozen=True)
class Compared:
    """What is timed.

    Attributes:
        ours: what Sidelight is asked.
        libraries: by library what says the same; what follows a comma tells its ways of saying it apart.
        most_gradients: how many times the plain gradient it may take; None if it is not held against that.
        least_speed_up: how many times as fast as the fastest library it is to be.
    """

    ours: LrpParameters
    libraries: Mapping[str, Said]
    most_gradients: float | None = None
    least_speed_up: float = 1.0


def environment(library: str) -> str:
    """The environment that has a library: ``iNNvestigate``, or ``torch`` for zennit and captum."""
    return "iNNvestigate" if library.startswith("iNNvestigate") else "torch"


def _rule(rule: Rule, libraries: Mapping[str, Said], **targets: float) -> Compared:
    """A rule at every layer with weights."""
    return Compared(LrpParameters(RuleMap(otherwise=rule)), libraries, **targets)


def _preset(preset: LrpPreset, library: str, name: str, arguments: dict[str, Any] | None = None) -> Compared:
    boxed = preset in (LrpPreset.EPSILON_GAMMA_BOX, LrpPreset.DEEP_TAYLOR_BOUNDED)
    ours = LrpParameters(preset, input_minimum=-1.0, input_maximum=1.0) if boxed else LrpParameters(preset)
    return Compared(ours, {library: (name, (arguments or {}) | (_PIXELS if boxed else {}))})


def _gradient(kind: GradientKind, name: str, samples: str = "") -> Compared:
    """A gradient method, which iNNvestigate has, too; with the name of its argument for the number of points."""
    method = GradientMethod(kind, samples=_POINTS) if samples else GradientMethod(kind)
    return Compared(LrpParameters(method), {"iNNvestigate": (name, {samples: _POINTS} if samples else {})})


_PIXELS = {"low": -1.0, "high": 1.0}
_BOX = {"low": -8.0, "high": 8.0}
_NO_BIAS = {"zero_params": "bias"}
_POINTS = 8

RULES: dict[str, Compared] = {
    "epsilon": _rule(
        Epsilon(1e-6),
        {
            "iNNvestigate": ("lrp.epsilon", {"epsilon": 1e-6}),
            "zennit": ("Epsilon", {"epsilon": 1e-6}),
            "captum": ("captum.Epsilon", {"epsilon": 1e-6}),
        },
        most_gradients=1.2,
    ),
    "alpha-beta": _rule(
        AlphaBeta(2.0, 1.0),
        {"iNNvestigate": ("lrp.alpha_2_beta_1", {}), "zennit": ("AlphaBeta", {"alpha": 2.0, "beta": 1.0})},
        most_gradients=2.2,
        least_speed_up=2.0,
    ),
    "gamma": _rule(Gamma(0.25), {"zennit": ("Gamma", {"gamma": 0.25})}, most_gradients=2.2, least_speed_up=2.0),
    "z+": _rule(
        AlphaBeta(1.0, 0.0),
        {
            "iNNvestigate": ("lrp.alpha_1_beta_0", {}),
            "iNNvestigate, bias ignored": ("lrp.z_plus", {}),
            "zennit": ("ZPlus", {}),
        },
    ),
    "w-square": _rule(WSquare(), {"iNNvestigate": ("lrp.w_square", {}), "zennit": ("WSquare", {})}),
    "flat": _rule(Flat(), {"iNNvestigate": ("lrp.flat", {}), "zennit": ("Flat", {})}),
    "z-box": _rule(ZBox(-8.0, 8.0), {"iNNvestigate": ("lrp", {"rule": "Bounded"}), "zennit": ("ZBox", _BOX)}),
    "z": _rule(Epsilon(0.0), {"iNNvestigate": ("lrp.z", {}), "zennit": ("Epsilon", {"epsilon": 0.0})}),
    "alpha-beta without bias": _rule(
        AlphaBeta(2.0, 1.0, ignore_bias=True),
        {
            "iNNvestigate": ("lrp.alpha_2_beta_1_IB", {}),
            "zennit": ("AlphaBeta", {"alpha": 2.0, "beta": 1.0} | _NO_BIAS),
        },
        least_speed_up=2.0,
    ),
    "z+ without bias": _rule(
        AlphaBeta(1.0, 0.0, ignore_bias=True),
        {
            "iNNvestigate": ("lrp.z_plus", {}),
            "iNNvestigate, fast": ("lrp.z_plus_fast", {}),
            "zennit": ("ZPlus", _NO_BIAS),
        },
    ),
    "alpha-beta-x": _rule(AlphaBetaX(2.0, 0.0, 1.0, 0.0), {"iNNvestigate": ("lrp", {"rule": "AlphaBetaX2m100Rule"})}),
    "sign": _rule(Sign(), {}),
    "EpsilonPlus": _preset(LrpPreset.EPSILON_PLUS, "zennit", "composite.EpsilonPlus"),
    "EpsilonPlusFlat": _preset(LrpPreset.EPSILON_PLUS_FLAT, "zennit", "composite.EpsilonPlusFlat"),
    "EpsilonAlpha2Beta1": _preset(LrpPreset.EPSILON_ALPHA2_BETA1, "zennit", "composite.EpsilonAlpha2Beta1"),
    "EpsilonAlpha2Beta1Flat": _preset(
        LrpPreset.EPSILON_ALPHA2_BETA1_FLAT, "zennit", "composite.EpsilonAlpha2Beta1Flat"
    ),
    "EpsilonGammaBox": _preset(LrpPreset.EPSILON_GAMMA_BOX, "zennit", "composite.EpsilonGammaBox"),
    "ExcitationBackprop": _preset(LrpPreset.EXCITATION_BACKPROP, "zennit", "composite.ExcitationBackprop"),
    "SequentialPresetA": _preset(LrpPreset.SEQUENTIAL_A, "iNNvestigate", "lrp.sequential_preset_a"),
    "SequentialPresetB": _preset(LrpPreset.SEQUENTIAL_B, "iNNvestigate", "lrp.sequential_preset_b"),
    "SequentialPresetAFlat": _preset(LrpPreset.SEQUENTIAL_A_FLAT, "iNNvestigate", "lrp.sequential_preset_a_flat"),
    "SequentialPresetBFlat": _preset(LrpPreset.SEQUENTIAL_B_FLAT, "iNNvestigate", "lrp.sequential_preset_b_flat"),
    "deep Taylor": _preset(LrpPreset.DEEP_TAYLOR, "iNNvestigate", "deep_taylor"),
    "bounded deep Taylor": _preset(LrpPreset.DEEP_TAYLOR_BOUNDED, "iNNvestigate", "deep_taylor.bounded"),
    "gradient": _gradient(GradientKind.GRADIENT, "gradient"),
    "input x gradient": _gradient(GradientKind.INPUT_TIMES_GRADIENT, "input_t_gradient"),
    "integrated gradients": _gradient(GradientKind.INTEGRATED_GRADIENTS, "integrated_gradients", "steps"),
    "SmoothGrad": _gradient(GradientKind.SMOOTH_GRAD, "smoothgrad", "augment_by_n"),
    "guided backprop": _gradient(GradientKind.GUIDED_BACKPROP, "guided_backprop"),
    "deconvnet": _gradient(GradientKind.DECONVNET, "deconvnet"),
}
"""Rules by name, each at every layer with weights, then presets and gradient methods."""
