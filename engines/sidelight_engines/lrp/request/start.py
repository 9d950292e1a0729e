"""Where relevance starts: at the logit of a class, with its value, 1 or its margin, or as the caller gives it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from sidelight_engines.lrp.parameters import TargetValue


class StartKind(Enum):
    """How relevance starts."""

    LARGEST = "largest"
    """At the largest logit of each instance."""
    CLASSES = "classes"
    """At given logits."""
    GIVEN = "given"
    """As the caller says."""


@dataclass(frozen=True)
class Start:
    """The start of relevance.

    Attributes:
        relevance: in the form of relevance of the logits.
        logits: (targets, rows) float64.
        classes: (targets, rows) int32.
    """

    relevance: Any
    logits: Any
    classes: Any


def start_relevance(
    kind: StartKind, value: TargetValue, targets: int, logits: Any, rows: Any, given: Any, positive: bool
) -> Start:
    """Builds the start of relevance.

    Args:
        kind: how it starts.
        value: with which value.
        targets: targets per instance.
        logits: (rows, ...).
        rows: a scalar tensor.
        given: CLASSES: (targets, rows) int32; GIVEN: (targets, rows, ...) float64.
        positive: whether only the positive part starts.
    """
    import tensorflow as tf

    start = start_weights(kind, value, targets, logits, rows, given)
    relevance = start.relevance
    if kind is not StartKind.GIVEN and value is not TargetValue.ONE:
        apart = tf.reshape(relevance, tf.concat([[targets], tf.shape(logits)], 0))
        relevance = tf.reshape(apart * logits[None], tf.shape(relevance))
    relevance = tf.ensure_shape(tf.nn.relu(relevance) if positive else relevance, [None, *logits.shape[1:]])
    return Start(relevance, start.logits, start.classes)


def start_weights(kind: StartKind, value: TargetValue, targets: int, logits: Any, rows: Any, given: Any) -> Start:
    """What each logit counts in what is explained: 1 for the class, -1 for the rival in a margin, or what is given.

    Args: as for `start_relevance`. The logits are not multiplied in.
    """
    import tensorflow as tf

    form = tf.concat([[targets * rows], tf.shape(logits)[1:]], 0)
    if kind is StartKind.GIVEN:
        weights = tf.reshape(tf.cast(given, logits.dtype), form)
        none = tf.fill([targets, rows], tf.constant(float("nan"), tf.float64))
        return Start(weights, none, tf.fill([targets, rows], -1))
    flat = tf.reshape(logits, [rows, -1])
    classes = tf.argmax(flat, axis=1, output_type=tf.int32)[None] if kind is StartKind.LARGEST else given
    count = tf.shape(flat)[1]
    chosen = tf.one_hot(classes, count, dtype=flat.dtype)
    logit = tf.transpose(tf.gather(flat, tf.transpose(classes), axis=1, batch_dims=1))
    weights = chosen
    if value is TargetValue.MARGIN:
        others = tf.where(chosen > 0, tf.constant(float("-inf"), flat.dtype), flat[None])
        weights = chosen - tf.one_hot(tf.argmax(others, axis=2, output_type=tf.int32), count, dtype=flat.dtype)
    return Start(tf.reshape(weights, form), tf.cast(logit, tf.float64), classes)
