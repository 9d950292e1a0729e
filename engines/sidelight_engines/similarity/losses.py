"""Losses per example, built into the function that is being traced.

Formulas are those of Keras 3 (`keras/src/losses/losses.py`, `keras/src/backend/tensorflow/nn.py`), whose losses
the reference method is used with. With y the target and p the output:

    categorical  -sum_k y_k log q_k           q = clip(p / sum(p)), from logits q = softmax(p)
    binary       mean_k -y log q - (1-y) log(1-q)      q = clip(p), from logits q = sigmoid(p)
    squared      mean (y - p)^2
    absolute     mean |y - p|
    Huber        mean of e^2/2 where |e| <= 1, else |e| - 1/2

clip(q) keeps q within [1e-7, 1 - 1e-7]. Keras takes the logits behind a softmax or sigmoid where it can see them,
which spares the clipping and its vanishing gradients; so does this module, for outputs of one axis.
"""

from __future__ import annotations

from typing import Any

from sidelight_engines.similarity.parameters import Loss

_CLIP = 1e-7
# The head whose probabilities a loss reads, and the same loss from the logits of that head.
_WITH_LOGITS = {
    Loss.CATEGORICAL_CROSS_ENTROPY: ("Softmax", Loss.CATEGORICAL_CROSS_ENTROPY_FROM_LOGITS),
    Loss.BINARY_CROSS_ENTROPY: ("Sigmoid", Loss.BINARY_CROSS_ENTROPY_FROM_LOGITS),
}


def loss_from_logits(loss: Loss, head: str) -> Loss:
    """The same loss from the logits behind a head, ``Softmax`` or ``Sigmoid``; the loss itself if they do not fit."""
    wanted, from_logits = _WITH_LOGITS.get(loss, ("", loss))
    return from_logits if head == wanted else loss


def loss_per_example(loss: Loss, output: Any, target: Any) -> Any:
    """Builds the loss of each example.

    Args:
        loss: which one; resolved.
        output: (batch, ...), probabilities, logits or numbers.
        target: in the output's shape.

    Returns:
        (batch,) float64
    """
    import tensorflow as tf

    # The gradient by a logit, p - y, keeps few digits of single precision where the model is confident.
    output, target = tf.cast(output, tf.float64), tf.cast(target, tf.float64)
    if loss is Loss.CATEGORICAL_CROSS_ENTROPY_FROM_LOGITS:
        each = tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=output)
    elif loss is Loss.CATEGORICAL_CROSS_ENTROPY:
        shares = output / tf.reduce_sum(output, axis=-1, keepdims=True)
        each = -tf.reduce_sum(target * tf.math.log(tf.clip_by_value(shares, _CLIP, 1 - _CLIP)), axis=-1)
    elif loss is Loss.BINARY_CROSS_ENTROPY_FROM_LOGITS:
        each = tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=output)
    elif loss is Loss.BINARY_CROSS_ENTROPY:
        clipped = tf.clip_by_value(output, _CLIP, 1 - _CLIP)
        each = -(target * tf.math.log(clipped) + (1 - target) * tf.math.log(1 - clipped))
    else:
        error = target - output
        size = tf.abs(error)
        if loss is Loss.SQUARED_ERROR:
            each = tf.square(error)
        elif loss is Loss.ABSOLUTE_ERROR:
            each = size
        else:
            each = tf.where(size <= 1, tf.square(error) / 2, size - 0.5)
    return tf.reduce_mean(tf.reshape(each, [tf.shape(output)[0], -1]), axis=1)
