"""Quality figures that cost forward passes: pixel flipping and the comparison with another class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.lrp.parameters import Chunking, ClassPerInstance, LrpParameters
from sidelight_engines.lrp.request.resolved import Request
from sidelight_engines.lrp.result import Explained, LrpResult
from sidelight_engines.model import Model
from sidelight_engines.runtime.runtime import Array


def with_quality(model: Model, request: Request, result: LrpResult, control: Control, chunking: Chunking) -> LrpResult:
    """Adds the quality figures that are asked for.

    Raises:
        Stopped: `control` asked for it.
    """
    quality = request.parameters.quality
    explained = list(result.explained)
    rows = result.forward_rows
    if quality.pixel_flipping_steps:
        areas, more = _flipping(model, request, result, control, chunking)
        explained = [replace(each, pixel_flipping_auc=float(area)) for each, area in zip(explained, areas, strict=True)]
        rows += more
    if quality.random_logit:
        similar, more = _random_logit(model, request, result, control, chunking)
        explained = [
            replace(each, random_logit_similarity=float(value)) for each, value in zip(explained, similar, strict=True)
        ]
        rows += more
    return replace(result, explained=tuple(explained), forward_rows=rows)


def _flipping(
    model: Model, request: Request, result: LrpResult, control: Control, chunking: Chunking
) -> tuple[list[float], int]:
    """Areas under the curve of the explained class's output while the most relevant positions are set to 0."""
    steps = request.parameters.quality.pixel_flipping_steps
    forward = model.runtime().forward([request.prepared.output.tensor])
    areas, sent = [], 0
    names = [part.name for part in result.inputs if part.name in request.feed]
    for each_row in range(request.rows):
        own = result.explained[each_row * request.targets : (each_row + 1) * request.targets]
        for target, each in enumerate(own):
            control.checkpoint()
            orders = _positions(request, result, names, each_row, target)
            curve: list[float] = []
            for first in range(0, steps + 1, chunking.rows):
                shares = np.arange(first, min(first + chunking.rows, steps + 1)) / steps
                batch = _flipped(request, orders, names, each_row, shares)
                made = forward(batch)[0]
                sent += len(shares)
                curve.extend(_value_of(made, each))
            areas.append(float(np.trapezoid(curve, dx=1 / steps)))
    return areas, sent


def _value_of(made: Array, each: Explained) -> list[float]:
    flat = made.reshape(len(made), -1)[:, each.class_index]
    found: list[float] = flat.astype(np.float64).tolist()
    return found


def _positions(request: Request, result: LrpResult, names: list[str], row: int, target: int) -> tuple[Array, list[int]]:
    """All positions of all inputs, the most relevant first, and where each input's positions begin.

    A position of an image holds all its channels; other inputs have one position per number.
    """
    scores, begins, total = [], [], 0
    for name in names:
        relevance = next(part.values for part in result.inputs if part.name == name)[row, target]
        axis = _channel_axis(request.feed[name])
        summed = relevance.sum(axis=axis) if axis is not None else relevance
        begins.append(total)
        scores.append(summed.ravel())
        total += summed.size
    return np.argsort(-np.concatenate(scores), kind="stable"), begins


def _channel_axis(array: Array) -> int | None:
    """The axis of the channels in one instance of a batch of images: the shorter of the first and the last."""
    if array.ndim != 4:
        return None
    return 0 if array.shape[1] < array.shape[-1] else 2


def _flipped(
    request: Request, orders: tuple[Array, list[int]], names: list[str], row: int, shares: Array
) -> dict[str, Array]:
    order, begins = orders
    batch = {name: np.repeat(array[row : row + 1], len(shares), axis=0) for name, array in request.feed.items()}
    for step, share in enumerate(shares):
        gone = np.zeros(len(order), bool)
        gone[order[: round(share * len(order))]] = True
        for name, begin in zip(names, begins, strict=True):
            array = batch[name][step]
            axis = _channel_axis(request.feed[name])
            shape = array.shape if axis is None else tuple(np.delete(array.shape, axis))
            mask = gone[begin : begin + int(np.prod(shape))].reshape(shape)
            array[mask if axis is None else np.broadcast_to(np.expand_dims(mask, axis), array.shape)] = 0
    return batch


def _random_logit(
    model: Model, request: Request, result: LrpResult, control: Control, chunking: Chunking
) -> tuple[list[float], int]:
    """Cosines with the explanation of a random other class (Sixt et al. 2020)."""
    # It explains by itself what this module adds to.
    from sidelight_engines.lrp.propagate import propagate_relevance

    quality, parameters = request.parameters.quality, request.parameters
    count = int(np.prod(request.logits))
    similar = np.full((request.rows, request.targets), np.nan)
    sent = 0
    for target in range(request.targets):
        own = [result.explained[row * request.targets + target] for row in range(request.rows)]
        others = tuple(
            _other(each.class_index, count, quality.seed, quality.first_instance + row, target)
            for row, each in enumerate(own)
        )
        found = propagate_relevance(
            model, _whole_inputs(request), _plain(parameters, others), control, chunking=chunking
        )
        sent += found.forward_rows
        for row in range(request.rows):
            first = np.concatenate([part.values[row, target].ravel() for part in result.inputs]).astype(np.float64)
            second = np.concatenate([part.values[row, 0].ravel() for part in found.inputs]).astype(np.float64)
            norms = np.linalg.norm(first) * np.linalg.norm(second)
            similar[row, target] = first @ second / norms if norms > 0 else 0.0
    return similar.ravel().tolist(), sent


def _whole_inputs(request: Request) -> dict[str, Array]:
    return dict(request.feed)


def _plain(parameters: LrpParameters, classes: tuple[int, ...]) -> LrpParameters:
    return replace(
        parameters,
        target=replace(parameters.target, what=ClassPerInstance(classes)),
        layers=type(parameters.layers)(),
        quality=type(parameters.quality)(),
    )


def _other(own: int, count: int, seed: int, instance: int, target: int) -> int:
    draws = np.random.Generator(np.random.Philox(key=[seed, instance], counter=[0, 0, 0, target]))
    other = int(draws.integers(count - 1))
    return other + (other >= own)
