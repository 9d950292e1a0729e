"""The operations of ai.onnx.ml that linear models of scikit-learn are written with."""

from __future__ import annotations

import numpy as np

from sidelight_engines.ops.context import LoweringContext, Tensor
from sidelight_engines.ops.registry import ML_DOMAIN, NodeForm, register

_TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX")


def _linear(form: NodeForm) -> str | None:
    transform = form.attributes.get("post_transform", "NONE")
    return None if transform in _TRANSFORMS else f"post_transform {transform} is not covered"


def _linear_classifier(form: NodeForm) -> str | None:
    labels = form.attributes.get("classlabels_ints") or form.attributes.get("classlabels_strings") or []
    if len(labels) != len(form.attributes.get("intercepts") or labels):
        return "one row of coefficients for two classes is not covered"
    return _linear(form)


def _plain_regression(form: NodeForm) -> str | None:
    transform = form.attributes.get("post_transform", "NONE")
    return None if transform == "NONE" else f"post_transform {transform} is not covered"


def _scores(op: LoweringContext, rows: int) -> Tensor:
    """X W' + b, with the weights, which are attributes, as constants of their own."""
    x = op.tf.cast(op.input(0), "float32")
    if x.shape.rank == 1:
        x = op.tf.expand_dims(x, 0)
    coefficients = np.asarray(op.attribute("coefficients"), np.float32).reshape(rows, -1)
    product = op.tf.matmul(x, op.tf.constant(coefficients, name="coefficients"), transpose_b=True)
    intercepts = op.attribute("intercepts")
    if not intercepts:
        return product
    return op.tf.nn.bias_add(product, op.tf.constant(np.asarray(intercepts, np.float32), name="intercepts"))


def _transformed(op: LoweringContext, scores: Tensor) -> Tensor:
    match op.attribute("post_transform", "NONE"):
        case "LOGISTIC":
            return op.tf.sigmoid(scores)
        case "SOFTMAX":
            return op.tf.nn.softmax(scores)
        case _:
            return scores


@register("LinearClassifier", since=1, domain=ML_DOMAIN, check=_linear_classifier)
def linear_classifier(op: LoweringContext) -> tuple[Tensor | None, Tensor]:
    """Labels of the highest scores (None if they are text), and the scores."""
    integers = op.attribute("classlabels_ints")
    classes = len(integers or op.attribute("classlabels_strings"))
    scores = _scores(op, classes)
    labels = None
    if integers:
        labels = op.tf.gather(op.tf.constant(integers, "int64"), op.tf.argmax(scores, -1))
    return labels, _transformed(op, scores)


@register("LinearRegressor", since=1, domain=ML_DOMAIN, check=_plain_regression)
def linear_regressor(op: LoweringContext) -> Tensor:
    """One affine function of the features per target."""
    return _scores(op, op.attribute("targets", 1))


@register("Scaler", since=1, domain=ML_DOMAIN)
def scaler(op: LoweringContext) -> Tensor:
    """(x - offset) * scale, per feature or for all."""
    x = op.tf.cast(op.input(0), "float32")
    offset, scale = (op.tf.constant(op.attribute(name), "float32") for name in ("offset", "scale"))
    return (x - offset) * scale


@register("Normalizer", since=1, domain=ML_DOMAIN)
def normalizer(op: LoweringContext) -> Tensor:
    """Divides each row by its largest element, the sum of magnitudes, or the Euclidean norm; zero rows stay."""
    tf = op.tf
    x = tf.cast(op.input(0), "float32")
    match op.attribute("norm", "MAX"):
        case "MAX":
            norm = tf.reduce_max(x, axis=-1, keepdims=True)
        case "L1":
            norm = tf.reduce_sum(tf.abs(x), axis=-1, keepdims=True)
        case _:
            return tf.math.divide_no_nan(x, _euclidean(op, x))
    return tf.math.divide_no_nan(x, norm)


def _euclidean(op: LoweringContext, x: Tensor) -> Tensor:
    square = op.tf.reduce_sum(op.tf.square(x), axis=-1, keepdims=True)
    zero = op.tf.equal(square, 0.0)
    return op.tf.where(zero, 0.0, op.tf.sqrt(op.tf.where(zero, 1.0, square)))


@register("ArrayFeatureExtractor", since=1, domain=ML_DOMAIN)
def array_feature_extractor(op: LoweringContext) -> Tensor:
    """Picks elements along the last axis; the result has at least two axes."""
    x = op.input(0)
    picked = op.tf.gather(x, op.tf.reshape(op.input(1), [-1]), axis=op.rank() - 1)
    return op.tf.expand_dims(picked, 0) if op.rank() == 1 else picked
