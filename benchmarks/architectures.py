"""Architectures with random weights, exported in both formats, for what must hold of any model.

Trained weights are not needed to find out whether an operation is covered or whether two formats agree, but two things
of trained networks are: the moving statistics of batch normalisation are those of the activations, roughly, so that
numbers neither vanish nor grow from block to block; and no bias is zero.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_SEED = 17
_CLASSES = 10

# Images that statistics are taken of.
_SEEN = 16


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Attributes:
        name: as its authors call it.
        build: makes it; takes the `keras` module.
        low: least value of a drawn input.
        high: greatest value; whole numbers below it for an input of whole numbers.
    """

    name: str
    build: Callable[[Any], Any]
    low: float = -1.0
    high: float = 1.0


@dataclass(frozen=True)
class Exported:
    """A model in both formats, with instances to explain.

    Attributes:
        name: of the architecture.
        saved_model: the folder of the SavedModel's version.
        onnx: the folder of the ONNX file's version.
        instances: an .npz of input name -> instances.
    """

    name: str
    saved_model: Path
    onnx: Path
    instances: Path


def application(name: str, pixels: int, **options: Any) -> Callable[[Any], Any]:
    """What builds one of Keras' applications for images of so many pixels."""

    def build(keras: Any) -> Any:
        made = getattr(keras.applications, name)
        return made(weights=None, input_shape=(pixels, pixels, 3), classes=_CLASSES, **options)

    return build


def mlp(keras: Any) -> Any:
    """Dense layers with batch normalisation before and behind the activation."""
    layers = keras.layers
    given = layers.Input((20,), name="features")
    x = layers.Dense(32, name="dense_1")(given)
    x = layers.ReLU(name="relu_1")(layers.BatchNormalization(name="bn_1")(x))
    x = layers.Dense(32, activation="elu", name="dense_2")(x)
    x = layers.Dense(16, activation="leaky_relu", name="dense_3")(layers.BatchNormalization(name="bn_2")(x))
    return keras.Model(given, layers.Dense(_CLASSES, activation="softmax", name="kind")(x))


def unet(keras: Any) -> Any:
    """Down by pooling, up by transposed convolution and by resizing, skips by concatenation; a number per pixel."""
    layers = keras.layers

    def block(x: Any, width: int, name: str) -> Any:
        x = layers.Conv2D(width, 3, padding="same", name=f"{name}_conv")(x)
        return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))

    given = layers.Input((32, 32, 3), name="image")
    one = block(given, 8, "down_1")
    two = block(layers.MaxPooling2D(2, name="pool_1")(one), 16, "down_2")
    three = block(layers.MaxPooling2D(2, name="pool_2")(two), 24, "down_3")
    four = block(layers.AveragePooling2D(2, name="pool_3")(three), 32, "bottom")
    x = layers.Conv2DTranspose(24, 2, strides=2, name="up_3")(four)
    x = block(layers.Concatenate(name="skip_3")([x, three]), 24, "up_conv_3")
    x = layers.UpSampling2D(2, interpolation="nearest", name="up_2")(x)
    x = block(layers.Concatenate(name="skip_2")([x, two]), 16, "up_conv_2")
    x = layers.UpSampling2D(2, interpolation="bilinear", name="up_1")(x)
    x = block(layers.Concatenate(name="skip_1")([x, one]), 8, "up_conv_1")
    return keras.Model(given, layers.Conv2D(1, 1, activation="sigmoid", name="mask")(x))


def cnn_1d(keras: Any) -> Any:
    """Convolutions over time: strided, dilated, causal, in groups."""
    layers = keras.layers
    given = layers.Input((64, 4), name="series")
    x = layers.Conv1D(16, 5, strides=2, padding="same", activation="relu", name="strided")(given)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Conv1D(16, 3, dilation_rate=2, padding="same", activation="relu", name="dilated")(x)
    x = layers.Conv1D(16, 3, padding="causal", activation="relu", name="causal")(x)
    x = layers.MaxPooling1D(2, name="pooled")(x)
    x = layers.SeparableConv1D(16, 3, padding="same", activation="relu", name="separable")(x)
    x = layers.AveragePooling1D(2, name="averaged")(x)
    x = layers.GlobalAveragePooling1D(name="global")(x)
    return keras.Model(given, layers.Dense(_CLASSES, activation="softmax", name="kind")(x))


def _positions(keras: Any, name: str) -> Any:
    class Positions(keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Adds a learned row to each step."""

        def build(self, shape: Any) -> None:
            self.rows = self.add_weight(shape=shape[1:], initializer="random_normal", name="rows")

        def call(self, x: Any) -> Any:
            return x + self.rows

    return Positions(name=name)


def _class_token(keras: Any, name: str) -> Any:
    class ClassToken(keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Puts a learned step in front."""

        def build(self, shape: Any) -> None:
            self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer="random_normal", name="token")

        def call(self, x: Any) -> Any:
            token = keras.ops.broadcast_to(self.token, (keras.ops.shape(x)[0], 1, x.shape[-1]))
            return keras.ops.concatenate([token, x], axis=1)

    return ClassToken(name=name)


def _transformer_block(keras: Any, x: Any, width: int, name: str, first: bool) -> Any:
    """Attention and two dense layers with GELU, each with a residual; normalised first or last."""
    layers = keras.layers

    def part(x: Any, compute: Callable[[Any], Any], normalised: str) -> Any:
        normalise = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_{normalised}")
        if first:
            return layers.Add(name=f"{name}_{normalised}_sum")([x, compute(normalise(x))])
        return normalise(layers.Add(name=f"{name}_{normalised}_sum")([x, compute(x)]))

    attention = layers.MultiHeadAttention(4, width // 4, name=f"{name}_attention")
    widen = layers.Dense(2 * width, activation="gelu", name=f"{name}_widen")
    narrow = layers.Dense(width, name=f"{name}_narrow")
    x = part(x, lambda y: attention(y, y), "norm_1")
    return part(x, lambda y: narrow(widen(y)), "norm_2")


def text_encoder(keras: Any) -> Any:
    """Tokens, positions, two blocks that normalise last (as BERT's), and a dense layer on the mean."""
    layers = keras.layers
    given = layers.Input((12,), dtype="int32", name="tokens")
    x = _positions(keras, "positions")(layers.Embedding(100, 32, name="table")(given))
    x = layers.LayerNormalization(name="embedded")(x)
    for number in (1, 2):
        x = _transformer_block(keras, x, 32, f"block_{number}", first=False)
    x = layers.GlobalAveragePooling1D(name="mean")(x)
    x = layers.Dense(32, activation="tanh", name="pooler")(x)
    return keras.Model(given, layers.Dense(_CLASSES, activation="softmax", name="kind")(x))


def vit(keras: Any) -> Any:
    """Patches, class token, positions, two blocks that normalise first, and a dense layer on the class token."""
    layers = keras.layers
    given = layers.Input((32, 32, 3), name="image")
    x = layers.Conv2D(32, 8, strides=8, name="patches")(given)
    x = layers.Reshape((16, 32), name="steps")(x)
    x = _positions(keras, "positions")(_class_token(keras, "class_token")(x))
    for number in (1, 2):
        x = _transformer_block(keras, x, 32, f"block_{number}", first=True)
    x = layers.LayerNormalization(epsilon=1e-6, name="last_norm")(x)[:, 0]
    return keras.Model(given, layers.Dense(_CLASSES, activation="softmax", name="kind")(x))


def lstm(keras: Any) -> Any:
    """Two layers of long short-term memory, the first in both directions."""
    layers = keras.layers
    given = layers.Input((16, 6), name="series")
    both = layers.Bidirectional(layers.LSTM(12, return_sequences=True, name="inner"), name="both_ways")
    x = layers.LSTM(16, name="last")(both(given))
    return keras.Model(given, layers.Dense(_CLASSES, activation="softmax", name="kind")(x))


def gru(keras: Any) -> Any:
    """Gated recurrent units, with the reset gate behind the product and before it, over embedded tokens."""
    layers = keras.layers
    given = layers.Input((16,), dtype="int32", name="tokens")
    x = layers.Embedding(100, 8, name="table")(given)
    x = layers.GRU(12, return_sequences=True, name="behind")(x)
    x = layers.GRU(12, reset_after=False, name="before")(x)
    return keras.Model(given, layers.Dense(_CLASSES, activation="softmax", name="kind")(x))


ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture("MLP", mlp),
    Architecture("VGG16", application("VGG16", 64)),
    Architecture("ResNet50", application("ResNet50", 64)),
    Architecture("ResNet50V2", application("ResNet50V2", 64)),
    Architecture("DenseNet121", application("DenseNet121", 64)),
    Architecture("MobileNetV2", application("MobileNetV2", 64)),
    Architecture("MobileNetV3Small", application("MobileNetV3Small", 64), 0, 255),
    Architecture("EfficientNetB0", application("EfficientNetB0", 64), 0, 255),
    Architecture("InceptionV3", application("InceptionV3", 96)),
    Architecture("InceptionResNetV2", application("InceptionResNetV2", 96)),
    Architecture("U-Net", unet),
    Architecture("ConvNeXtTiny", application("ConvNeXtTiny", 64), 0, 255),
    Architecture("1D CNN", cnn_1d),
    Architecture("Transformer text encoder", text_encoder, 0, 100),
    Architecture("ViT", vit),
    Architecture("LSTM", lstm),
    Architecture("GRU", gru, 0, 100),
)


def draw(model: Any, architecture: Architecture, count: int, seed: int) -> dict[str, Array]:
    """Draws inputs, uniformly between the architecture's bounds.

    Returns:
        Input name -> (count, ...).
    """
    random = np.random.default_rng(seed)
    drawn = {}
    for tensor in model.inputs:
        shape = (count, *tensor.shape[1:])
        whole = "int" in str(tensor.dtype)
        values = (
            random.integers(0, int(architecture.high), shape)
            if whole
            else random.uniform(architecture.low, architecture.high, shape)
        )
        drawn[tensor.name] = values.astype("int32" if whole else "float32")
    return drawn


def build(architecture: Architecture) -> Any:
    """Builds a model with seeded weights.

    Args:
        architecture: which one.

    Returns:
        The Keras model.
    """
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(_SEED)
    model = architecture.build(keras)
    random = np.random.default_rng(_SEED)
    normalisations = []
    for layer in model._flatten_layers():
        if hasattr(layer, "layers") or isinstance(layer, keras.layers.Normalization):
            continue
        for weight in layer.weights:
            _randomise(weight, random)
        if isinstance(layer, keras.layers.BatchNormalization):
            normalisations.append(layer)
    _take_statistics(model, normalisations, list(draw(model, architecture, _SEEN, _SEED).values()), random)
    return model


def _randomise(weight: Any, random: np.random.Generator) -> None:
    """Gives scales around 1 and everything else that has one axis around 0; kernels keep what they were drawn as."""
    if len(weight.shape) != 1 or not str(weight.dtype).startswith("float"):
        return
    around = 1.0 if weight.name in ("gamma", "moving_variance", "scale") else 0.0
    weight.assign(around + random.uniform(-0.2, 0.2, weight.shape))


def _take_statistics(model: Any, layers: Sequence[Any], seen: Sequence[Array], random: np.random.Generator) -> None:
    if not layers:
        return
    usual = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    model(seen[0] if len(seen) == 1 else list(seen), training=True)
    for layer, momentum in zip(layers, usual, strict=True):
        layer.momentum = momentum
        # Of other data than what will be explained, as always.
        layer.moving_variance.assign(layer.moving_variance * random.uniform(0.9, 1.2, layer.moving_variance.shape))


@contextmanager
def _convertible() -> Iterator[None]:
    """Has Keras trace what tf2onnx can convert.

    It makes an invalid file of TensorFlow's own GELU, which is by erfc, and of the functions that Keras wraps around
    convolutions in groups to have them compiled.
    """
    import tensorflow as tf

    usual_gelu, usual_function = tf.nn.gelu, tf.function

    def gelu(features: Any, approximate: bool = False, name: str | None = None) -> Any:
        if approximate:
            return usual_gelu(features, approximate, name)
        half = tf.constant(0.5, features.dtype)
        return half * features * (1 + tf.math.erf(features * tf.constant(np.sqrt(0.5), features.dtype)))

    def function(*args: Any, jit_compile: bool | None = None, **options: Any) -> Any:
        return usual_function(*args, **options)

    tf.nn.gelu, tf.function = gelu, function
    try:
        yield
    finally:
        tf.nn.gelu, tf.function = usual_gelu, usual_function


def _hold_statistics(path: Path, model: Any) -> None:
    """Writes into an ONNX file the mean and variance of Keras' Normalization, which tf2onnx makes inputs of it."""
    import keras
    import onnx

    file = onnx.load(path)
    # The names of constants that were captured; those of inputs have no number of an output.
    extra = [value for value in file.graph.input if value.name.endswith(":0")]
    if not extra:
        return
    (layer,) = (layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Normalization))
    for value in extra:
        statistic = layer.mean if value.name.endswith("Sub/y:0") else layer.variance
        file.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(statistic), value.name))
        file.graph.input.remove(value)
    onnx.save(file, path)


def export(architecture: Architecture, folder: Path, count: int = 4) -> Exported:
    """Writes a model in both formats, unless the folder holds it already.

    Args:
        architecture: which one.
        folder: where to.
        count: instances that are drawn with it.
    """
    safe = architecture.name.replace(" ", "_")
    made = Exported(
        architecture.name,
        folder / f"{safe}_saved_model" / "1",
        folder / f"{safe}_onnx" / "1",
        folder / f"{safe}.npz",
    )
    if made.instances.exists():
        return made
    model = build(architecture)
    model.export(str(made.saved_model), verbose=False)
    made.onnx.mkdir(parents=True, exist_ok=True)
    with _convertible():
        model.export(str(made.onnx / "model.onnx"), format="onnx", verbose=False)
    _hold_statistics(made.onnx / "model.onnx", model)
    # Written last: it stands for the whole.
    np.savez(made.instances, **draw(model, architecture, count, _SEED + 1))
    return made


def main() -> None:
    """Writes all architectures, or those that are named, to a folder."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m benchmarks.architectures", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="of architectures; all if none is named")
    given = parser.parse_args()
    for architecture in ARCHITECTURES:
        if not given.names or architecture.name in given.names:
            start = time.perf_counter()
            export(architecture, given.folder)
            print(f"{architecture.name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
