"""Models written in NumPy, with the graph that describes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sidelight_engines.graph.graph import Graph, Layer, ModelFormat, TensorSpec
from sidelight_engines.runtime.runtime import ForwardPass, Lanes, RuntimeKind

Array = npt.NDArray[Any]


class NumpyRuntime:
    """Evaluates functions of the input; counts what it was asked.

    Attributes:
        batches: rows of each forward pass.
        fetched: the tensors of each prepared forward pass.
    """

    def __init__(self, functions: Mapping[str, Callable[[Array], Array]]) -> None:
        self._functions = functions
        self.batches: list[int] = []
        self.fetched: list[tuple[str, ...]] = []

    @property
    def kind(self) -> RuntimeKind:
        return RuntimeKind.ONNX_RUNTIME

    def forward(self, tensors: Sequence[str]) -> ForwardPass:
        self.fetched.append(tuple(tensors))

        def run(inputs: Mapping[str, Array]) -> list[Array]:
            x = inputs["x"]
            self.batches.append(len(x))
            return [self._functions[tensor](x) for tensor in tensors]

        return run

    def lanes(self, tensors: Sequence[str]) -> Lanes:
        return Lanes(self.forward(tensors), 2)


class NumpyModel:
    """A model y = output(x), its inner layers, and the graph that tells of them.

    Args:
        shape: of one instance.
        output: the model.
        layers: name -> function of the input; the name is the tensor's, too.
        affine: names of layers that are affine.
        dtype: of the input and of every layer.
        head: ``Softmax`` or ``Sigmoid``, if the output comes from one; `logits` is then what it reads.
        shapes_known: whether the graph tells the layers' shapes.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        output: Callable[[Array], Array],
        layers: Mapping[str, Callable[[Array], Array]] | None = None,
        affine: Sequence[str] = (),
        dtype: str = "float32",
        head: str = "",
        logits: Callable[[Array], Array] | None = None,
        shapes_known: bool = True,
    ) -> None:
        layers = dict(layers or {})
        functions = {"y": output, **layers}
        if logits is not None:
            functions["logits"] = logits
        self.runtime = NumpyRuntime(functions)
        example = np.zeros((2, *shape), dtype)
        with np.errstate(all="ignore"):
            shapes = {name: (None, *np.shape(function(example))[1:]) for name, function in functions.items()}
        described = [
            Layer(
                name=name,
                op="Op",
                tensor=name,
                dtype=dtype if shapes_known else "",
                shape=shapes[name] if shapes_known else None,
                parameter_count=0,
                affine=name in affine,
            )
            for name in [*layers, "y"]
        ]
        self.graph = Graph(
            format=ModelFormat.ONNX,
            producer="test",
            inputs=(TensorSpec("x", "x", dtype, (None, *shape)),),
            outputs=(TensorSpec("prediction", "y", dtype, shapes["y"]),),
            layers=tuple(described),
            output_layers={"prediction": "y"},
            logits={"prediction": "logits"} if logits is not None else {},
            head_ops={"prediction": head} if head else {},
            parameter_count=0,
        )


def square() -> NumpyModel:
    """y = x^2 of one feature, in float64."""
    return NumpyModel((1,), lambda x: x**2, dtype="float64")


def softmax(z: Array) -> Array:
    """The softmax along the last axis, in the type of z."""
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def network(
    features: int = 6,
    units: int = 5,
    classes: int = 3,
    dtype: str = "float32",
    seed: int = 0,
    shapes_known: bool = True,
) -> NumpyModel:
    """A dense layer, tanh, a dense layer and a softmax, each of them a layer."""
    random = np.random.default_rng(seed)
    w1, b1 = random.normal(size=(features, units)).astype(dtype), random.normal(size=units).astype(dtype)
    w2, b2 = random.normal(size=(units, classes)).astype(dtype), random.normal(size=classes).astype(dtype)

    def dense_1(x: Array) -> Array:
        return x @ w1 + b1

    def tanh(x: Array) -> Array:
        return np.tanh(dense_1(x))

    def dense_2(x: Array) -> Array:
        return tanh(x) @ w2 + b2

    return NumpyModel(
        (features,),
        lambda x: softmax(dense_2(x)),
        {"dense_1": dense_1, "tanh": tanh, "dense_2": dense_2},
        affine=("dense_1",),
        dtype=dtype,
        head="Softmax",
        logits=dense_2,
        shapes_known=shapes_known,
    )


def uniform(count: int, features: int, dtype: str = "float32", seed: int = 1) -> Array:
    """Instances of numbers from 0 to 1."""
    return np.random.default_rng(seed).random((count, features)).astype(dtype)
