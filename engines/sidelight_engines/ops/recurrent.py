"""Recurrent layers: RNN, GRU and LSTM as loops over time.

With x_t a row of the sequence, h the state before it, W and R the kernels per gate, and Wb and Rb their offsets:

    RNN     h' = f(x W + Wb + h R + Rb)
    GRU     z, r = f(x W + Wb + h R + Rb)
            n  = g(x W + Wb + (r h) R + Rb)            or, with linear_before_reset,  g(x W + Wb + r (h R + Rb))
            h' = z h + (1 - z) n
    LSTM    i, f = f(x W + h R + Wb + Rb + P c)
            c' = f c + i g(x W + h R + Wb + Rb)
            o  = f(x W + h R + Wb + Rb + P c')
            h' = o h(c')

Products and sums are in the order in which Keras computes them, so that relevance propagation, which divides at every
one of them, finds the same in both file formats.

Source: the operators' definitions in the ONNX specification. Beyond a sequence's length the state stays, and the
output is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sidelight_engines.ops.context import LoweringContext, RefusedFormError, Tensor
from sidelight_engines.ops.registry import NodeForm, register

Activation = Callable[[Tensor], Tensor]
State = tuple[Tensor, ...]
Step = Callable[[Tensor, State], State]

# Activation -> the numbers that it takes, alpha then beta, as far as it takes them.
_NUMBERS: dict[str, tuple[float, ...]] = {
    "affine": (1.0, 0.0),
    "elu": (1.0,),
    "hardsigmoid": (0.2, 0.5),
    "leakyrelu": (0.01,),
    "relu": (),
    "scaledtanh": (1.0, 1.0),
    "sigmoid": (),
    "softplus": (),
    "softsign": (),
    "tanh": (),
    "thresholdedrelu": (1.0,),
}

# Operation -> the activations of one direction where the node names none.
_DEFAULTS = {"GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh"), "RNN": ("Tanh",)}

_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True)
class _Direction:
    """What one direction works with.

    Attributes:
        backwards: whether it starts at the end.
        kernel: (inputs, gates * hidden).
        recurrent: (hidden, gates * hidden).
        offsets: Wb and Rb, (gates * hidden,) each; None for 0.
        peepholes: (3 * hidden,); None for 0.
        activations: in the order in which the operation lists them.
    """

    backwards: bool
    kernel: Tensor
    recurrent: Tensor
    offsets: tuple[Tensor, Tensor] | None
    peepholes: Tensor | None
    activations: tuple[Activation, ...]


def _known_form(form: NodeForm) -> str | None:
    direction = form.attributes.get("direction", "forward")
    if direction not in _DIRECTIONS:
        return f"direction {direction!r} is not one of ONNX's"
    for name in form.attributes.get("activations") or ():
        if name.lower() not in _NUMBERS:
            return f"the activation {name!r} is not covered"
    return None


@register("RNN", since=1, check=_known_form)
@register("RNN", since=7, check=_known_form)
@register("RNN", since=14, check=_known_form)
def rnn(op: LoweringContext) -> tuple[Tensor, ...]:
    """A recurrent layer without gates."""

    def step_of(own: _Direction) -> tuple[Tensor | None, Step]:
        (activation,) = own.activations
        offset_x, offset_h = own.offsets or (None, None)

        def step(x: Tensor, state: State) -> State:
            return (activation(x + _affine(op, state[0], own.recurrent, offset_h)),)

        return offset_x, step

    return _run(op, step_of)


@register("GRU", since=1, check=_known_form)
@register("GRU", since=3, check=_known_form)
@register("GRU", since=7, check=_known_form)
@register("GRU", since=14, check=_known_form)
def gru(op: LoweringContext) -> tuple[Tensor, ...]:
    """Gated recurrent units."""
    reset_behind = bool(op.attribute("linear_before_reset", 0))

    def step_of(own: _Direction) -> tuple[Tensor | None, Step]:
        gate, candidate = own.activations
        offset_x, offset_h = own.offsets or (None, None)
        width = own.recurrent.shape[0]
        gates_kernel, candidate_kernel = own.recurrent[:, : 2 * width], own.recurrent[:, 2 * width :]
        gates_offset = None if offset_h is None else offset_h[: 2 * width]
        candidate_offset = None if offset_h is None else offset_h[2 * width :]

        def step(x: Tensor, state: State) -> State:
            (h,) = state
            x_z, x_r, x_n = op.tf.split(x, 3, axis=-1)
            if reset_behind:
                h_z, h_r, h_n = op.tf.split(_affine(op, h, own.recurrent, offset_h), 3, axis=-1)
            else:
                h_z, h_r = op.tf.split(_affine(op, h, gates_kernel, gates_offset), 2, axis=-1)
            z, r = gate(x_z + h_z), gate(x_r + h_r)
            remembered = r * h_n if reset_behind else _affine(op, r * h, candidate_kernel, candidate_offset)
            n = candidate(x_n + remembered)
            return (z * h + (op.number(1, z) - z) * n,)

        return offset_x, step

    return _run(op, step_of)


@register("LSTM", since=1, check=_known_form)
@register("LSTM", since=7, check=_known_form)
@register("LSTM", since=14, check=_known_form)
def lstm(op: LoweringContext) -> tuple[Tensor, ...]:
    """Long short-term memory."""
    coupled = bool(op.attribute("input_forget", 0))

    def step_of(own: _Direction) -> tuple[Tensor | None, Step]:
        gate, cell, hidden = own.activations
        offset = None if own.offsets is None else own.offsets[0] + own.offsets[1]
        peepholes = None if own.peepholes is None else op.tf.split(own.peepholes, 3)

        def step(x: Tensor, state: State) -> State:
            h, c = state
            summed = x + op.tf.matmul(h, own.recurrent)
            i, o, f, g = op.tf.split(summed if offset is None else summed + offset, 4, axis=-1)
            if peepholes is not None:
                i, f = i + peepholes[0] * c, f + peepholes[2] * c
            i = gate(i)
            forget = op.number(1, i) - i if coupled else gate(f)
            made = forget * c + i * cell(g)
            o = gate(o if peepholes is None else o + peepholes[1] * made)
            return o * hidden(made), made

        return None, step

    return _run(op, step_of)


def _affine(op: LoweringContext, x: Tensor, kernel: Tensor, offset: Tensor | None) -> Tensor:
    y = op.tf.matmul(x, kernel)
    return y if offset is None else y + offset


def _run(op: LoweringContext, step_of: Callable[[_Direction], tuple[Tensor | None, Step]]) -> tuple[Tensor, ...]:
    """All directions, from the inputs as the node has them to its outputs.

    Args:
        op: the node.
        step_of: from a direction to the offset of the sequence's product, and to what one step does.
    """
    tf, batch_first = op.tf, bool(op.attribute("layout", 0))
    sequence = op.input(0)
    if op.rank() != 3:
        raise RefusedFormError(f"a sequence has three axes, not {op.rank()}")
    if batch_first:
        sequence = tf.transpose(sequence, [1, 0, 2])
    directions = list(_directions(op))
    width = directions[0].recurrent.shape[0]
    if width is None:
        raise RefusedFormError("the size of the state is not known before the model runs")
    starts = [_initial(op, index, sequence, len(directions), width) for index in _state_inputs(op)]
    outputs, ends = [], []
    for index, own in enumerate(directions):
        offset, step = step_of(own)
        made, end = _loop(op, own, sequence, offset, step, tuple(start[index] for start in starts))
        outputs.append(made)
        ends.append(end)
    whole = tf.stack(outputs, axis=1)
    last = [tf.stack([end[position] for end in ends]) for position in range(len(starts))]
    if batch_first:
        whole = tf.transpose(whole, [2, 0, 1, 3])
        last = [tf.transpose(state, [1, 0, 2]) for state in last]
    return (whole, *last)


def _state_inputs(op: LoweringContext) -> tuple[int, ...]:
    return (5, 6) if op.form.op == "LSTM" else (5,)


def _directions(op: LoweringContext) -> Iterator[_Direction]:
    tf = op.tf
    backwards = _DIRECTIONS[op.attribute("direction", "forward")]
    activations = _activations(op, len(backwards))
    each = len(activations) // len(backwards)
    offsets, peepholes = op.optional(3), op.optional(7)
    for index, back in enumerate(backwards):
        yield _Direction(
            backwards=back,
            kernel=tf.transpose(op.input(1)[index]),
            recurrent=tf.transpose(op.input(2)[index]),
            offsets=None if offsets is None else tuple(tf.split(offsets[index], 2)),
            peepholes=None if peepholes is None else peepholes[index],
            activations=tuple(activations[each * index : each * (index + 1)]),
        )


def _activations(op: LoweringContext, directions: int) -> list[Activation]:
    defaults = _DEFAULTS[op.form.op]
    names = op.attribute("activations") or [*defaults * directions]
    if len(names) != len(defaults) * directions:
        raise RefusedFormError(f"{len(names)} activations are named where {len(defaults) * directions} are needed")
    alphas, betas = iter(op.attribute("activation_alpha") or ()), iter(op.attribute("activation_beta") or ())
    made: list[Activation] = []
    for name in names:
        # The lists hold numbers only for the activations that take them, in order; what is missing is the default.
        numbers = [
            next(given, default) for given, default in zip((alphas, betas), _NUMBERS[name.lower()], strict=False)
        ]
        # ONNX Runtime clips what goes into the gates of an LSTM, not the cell on its way out.
        cell = op.form.op == "LSTM" and len(made) % len(defaults) == 2
        made.append(_activation(op, name.lower(), numbers, None if cell else op.attribute("clip")))
    return made


def _activation(op: LoweringContext, name: str, numbers: Sequence[float], limit: float | None) -> Activation:
    tf = op.tf

    def compute(x: Tensor) -> Tensor:
        if limit:
            x = tf.clip_by_value(x, op.number(-limit, x), op.number(limit, x))
        a, b = (*(op.number(number, x) for number in numbers), None, None)[:2]
        match name:
            case "affine":
                return a * x + b
            case "elu":
                return tf.where(x > 0, x, a * tf.math.expm1(tf.minimum(x, op.number(0, x))))
            case "hardsigmoid":
                return tf.clip_by_value(a * x + b, op.number(0, x), op.number(1, x))
            case "leakyrelu":
                return tf.nn.leaky_relu(x, numbers[0])
            case "scaledtanh":
                return a * tf.tanh(b * x)
            case "thresholdedrelu":
                return tf.where(x > a, x, tf.zeros_like(x))
        plain = {
            "relu": tf.nn.relu,
            "sigmoid": tf.sigmoid,
            "softplus": tf.nn.softplus,
            "softsign": tf.nn.softsign,
            "tanh": tf.tanh,
        }
        return plain[name](x)

    return compute


def _initial(op: LoweringContext, index: int, sequence: Tensor, directions: int, width: int) -> Any:
    """One state of all directions before the first step, (directions, batch, width)."""
    given = op.optional(index)
    if given is None:
        return op.tf.zeros([directions, op.lengths(sequence)[1], width], sequence.dtype)
    return op.tf.transpose(given, [1, 0, 2]) if op.attribute("layout", 0) else given


def _loop(
    op: LoweringContext, own: _Direction, sequence: Tensor, offset: Tensor | None, step: Step, start: State
) -> tuple[Tensor, State]:
    """One direction: its output at every time, (time, batch, width), and its states at the end."""
    tf = op.tf
    time, batch, inputs = op.lengths(sequence)
    # The sequence's part of all products at once: one large product is several times as fast as many small ones.
    rows = _affine(op, op.reshape(sequence, [-1, inputs]), own.kernel, offset)
    read = op.reshape(rows, [time, batch, rows.shape[-1]])
    lengths = op.optional(4)
    elements = tf.TensorArray(read.dtype, size=time, element_shape=read.shape[1:]).unstack(read)
    # Known before the loop: the shape that a state keeps.
    width = own.recurrent.shape[0]
    form = tf.TensorShape([read.shape[1], width])
    start = tuple(tf.ensure_shape(state, form) for state in start)
    made = tf.TensorArray(read.dtype, size=time, element_shape=form)

    def body(count: Tensor, state: State, made: Any) -> tuple[Tensor, State, Any]:
        at = time - 1 - count if own.backwards else count
        after = step(elements.read(at), state)
        output = after[0]
        if lengths is not None:
            inside = tf.expand_dims(at < tf.cast(lengths, "int32"), 1)
            output = tf.where(inside, output, tf.zeros_like(output))
            after = tuple(tf.where(inside, new, old) for new, old in zip(after, state, strict=True))
        return count + 1, after, made.write(at, output)

    _, end, made = tf.while_loop(
        lambda count, state, made: count < time,
        body,
        (tf.constant(0), start, made),
        shape_invariants=(tf.TensorShape([]), tuple(form for _ in start), tf.TensorShape(None)),
        maximum_iterations=time,
    )
    whole = tf.ensure_shape(made.stack(), [sequence.shape[0], *form.as_list()])
    return whole, end
