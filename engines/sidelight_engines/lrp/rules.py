"""The rules by which an operation hands its relevance down, as data.

An operation computes y_j = sum_i z_ij + b_j with z_ij = x_i w_ij. A rule is a set of branches; a branch c has a
weight L_c, numerators q_ij and a bias numerator q_0j, and with n_j = sum_i q_ij + q_0j and D_j = n_j + epsilon sgn(n_j)

    R_i = sum_j sum_c L_c q_ij R_j / D_j

v+ is max(v, 0), v- is min(v, 0), sgn(0) = 1. What does not reach the inputs is booked in the ledger: the bias's
share L_c q_0j R_j / D_j, the stabiliser's L_c (D_j - n_j) R_j / D_j, and L_c R_j where a branch of one sign is empty.

Sources: Bach et al. 2015 (epsilon, alpha-beta), Montavon et al. 2017 (z+, w-square, z-box), Lapuschkin et al. 2019
(flat), Montavon et al. 2019 (gamma), Andreoletti et al. 2022 (gamma for any sign, as zennit has it), Binder et al.
2016 (alpha-beta-x), Gumpfer et al. 2023 (SIGN).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Epsilon:
    """LRP-epsilon: one branch, z_ij and b_j; with epsilon 0 it is LRP-0, the z rule.

    Attributes:
        epsilon: the stabiliser, at least 0.
        ignore_bias: leaves b_j out.
    """

    epsilon: float = 1e-6
    ignore_bias: bool = False

    def __str__(self) -> str:
        return f"epsilon({self.epsilon:g}{_bias(self.ignore_bias)})"


@dataclass(frozen=True)
class Gamma:
    """LRP-gamma for inputs of any sign: where y_j > 0, z_ij + gamma z_ij+, else z_ij + gamma z_ij-; b_j likewise.

    Relevance at neurons whose y_j is exactly 0 goes to the stabiliser.

    Attributes:
        gamma: how much contributions of the neuron's own sign are favoured, at least 0.
        epsilon: the stabiliser, at least 0.
        ignore_bias: leaves b_j out, from the sign test too.
    """

    gamma: float = 0.25
    epsilon: float = 1e-6
    ignore_bias: bool = False

    def __str__(self) -> str:
        return f"gamma({self.gamma:g}, epsilon={self.epsilon:g}{_bias(self.ignore_bias)})"


@dataclass(frozen=True)
class AlphaBeta:
    """LRP-alpha-beta: alpha for the branch z_ij+, b_j+ and -beta for the branch z_ij-, b_j-.

    Attributes:
        alpha: at least 1. 1 is z+.
        beta: alpha - 1.
        epsilon: the stabiliser, at least 0.
        ignore_bias: leaves b_j out.
    """

    alpha: float = 2.0
    beta: float = 1.0
    epsilon: float = 1e-6
    ignore_bias: bool = False

    def __str__(self) -> str:
        return f"alpha_beta({self.alpha:g}, {self.beta:g}, epsilon={self.epsilon:g}{_bias(self.ignore_bias)})"


@dataclass(frozen=True)
class AlphaBetaX:
    """Alpha-beta by quadrants of the signs of x_i and w_ij, each normalised by itself.

    A bias is the weight of an input that is always 1. If the weights of the quadrants, betas negative, do not sum to
    1, the rest goes to the sink.

    Attributes:
        alpha_positive_input: the weight of x+ w+.
        alpha_negative_input: the weight of x- w-.
        beta_positive_input: minus the weight of x+ w-.
        beta_negative_input: minus the weight of x- w+.
        epsilon: the stabiliser, at least 0.
        ignore_bias: leaves b_j out.
    """

    alpha_positive_input: float = 1.0
    alpha_negative_input: float = 0.0
    beta_positive_input: float = 0.0
    beta_negative_input: float = 0.0
    epsilon: float = 1e-6
    ignore_bias: bool = False

    def __str__(self) -> str:
        weights = (
            self.alpha_positive_input,
            self.alpha_negative_input,
            self.beta_positive_input,
            self.beta_negative_input,
        )
        shown = ", ".join(f"{weight:g}" for weight in weights)
        return f"alpha_beta_x({shown}, epsilon={self.epsilon:g}{_bias(self.ignore_bias)})"


@dataclass(frozen=True)
class WSquare:
    """Contributions w_ij^2 and b_j^2, whatever the input.

    Attributes:
        epsilon: the stabiliser, at least 0.
        ignore_bias: leaves b_j out.
    """

    epsilon: float = 1e-6
    ignore_bias: bool = False

    def __str__(self) -> str:
        return f"w_square(epsilon={self.epsilon:g}{_bias(self.ignore_bias)})"


@dataclass(frozen=True)
class Flat:
    """The same contribution from every input of a neuron; no bias.

    Attributes:
        epsilon: the stabiliser, at least 0.
    """

    epsilon: float = 1e-6

    def __str__(self) -> str:
        return f"flat(epsilon={self.epsilon:g})"


@dataclass(frozen=True)
class ZBox:
    """For inputs within [l, h]: x_i w_ij - l_i w_ij+ - h_i w_ij-; no bias.

    Attributes:
        low: l, for all inputs; None for the request's `input_minimum`.
        high: h, for all inputs; None for the request's `input_maximum`.
        epsilon: the stabiliser, at least 0.
    """

    low: float | None = None
    high: float | None = None
    epsilon: float = 1e-6

    def __str__(self) -> str:
        low = "input_minimum" if self.low is None else f"{self.low:g}"
        high = "input_maximum" if self.high is None else f"{self.high:g}"
        return f"z_box({low}, {high}, epsilon={self.epsilon:g})"


@dataclass(frozen=True)
class Sign:
    """Epsilon, then the sign of the input in place of the input: sgn(x_i) w_ij R_j / D_j; D_j as for epsilon.

    It does not conserve: what the change of the input adds or takes is booked as sink.

    Attributes:
        epsilon: the stabiliser, at least 0.
        ignore_bias: leaves b_j out.
    """

    epsilon: float = 1e-6
    ignore_bias: bool = False

    def __str__(self) -> str:
        return f"sign(epsilon={self.epsilon:g}{_bias(self.ignore_bias)})"


@dataclass(frozen=True)
class Pass:
    """Relevance passes unchanged; for operations whose input and output have one shape."""

    def __str__(self) -> str:
        return "pass"


@dataclass(frozen=True)
class Norm:
    """Epsilon for sums and averages.

    Attributes:
        epsilon: the stabiliser, at least 0.
        ignore_bias: leaves constants that are added out.
    """

    epsilon: float = 1e-6
    ignore_bias: bool = False

    def __str__(self) -> str:
        return f"norm({self.epsilon:g}{_bias(self.ignore_bias)})"


@dataclass(frozen=True)
class PlainGradient:
    """The gradient. It does not conserve: the difference is booked as sink."""

    def __str__(self) -> str:
        return "plain_gradient"


Rule = Epsilon | Gamma | AlphaBeta | AlphaBetaX | WSquare | Flat | ZBox | Sign | Pass | Norm | PlainGradient


def _bias(ignored: bool) -> str:
    return ", bias ignored" if ignored else ""
