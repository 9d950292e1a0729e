"""What the model is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidelight_service.cli.terminal import size_in_words
from sidelight_service.report.figures.bars import Bar, bars
from sidelight_service.report.figures.macros import macro
from sidelight_service.report.page import Data, Figure, Section
from sidelight_service.report.subject import Subject

if TYPE_CHECKING:
    from sidelight import Layer

_FORMATS = {"onnx": "ONNX", "saved-model": "SavedModel"}


def describe_model(subject: Subject) -> Section:
    """The first section: inputs, outputs, layers, and what is supported."""
    detail, reference = subject.detail, subject.reference
    inputs = "; ".join(f"{spec.name}: {spec.data_type} {_shape(spec.shape)}" for spec in detail.inputs)
    outputs = "; ".join(f"{spec.name}: {spec.data_type} {_shape(spec.shape)}" for spec in detail.outputs)
    check = detail.gradient_check
    settings = [
        (
            "format",
            _FORMATS.get(detail.status.format, detail.status.format) + f", {size_in_words(detail.status.size_bytes)}",
        ),
        ("made by", detail.producer or "the file does not say"),
        ("inputs", inputs),
        ("outputs", outputs),
        (
            "kind",
            "classifier: it ends in a softmax or sigmoid" if detail.classifier else "no probabilities at its output",
        ),
        ("layers", f"{len(detail.layers)} with {detail.parameter_count:,} learned numbers"),
        ("digest", detail.status.digest),
        ("reference set", f"{reference.name}: {reference.count:,} examples, {reference.digest}"),
    ]
    trust = []
    if check.state == "passed":
        trust.append(
            "Gradients come from the model's TensorFlow form, which agrees with ONNX Runtime to "
            f"{check.max_relative_error:.1e} of the largest output on {check.probe_rows} random rows."
        )
    elif check.state == "failed":
        trust.append(f"The model's TensorFlow form can not be trusted, so nothing here uses it: {check.message}.")
    elif check.state == "pending":
        trust.append(
            "The model's TensorFlow form had not been compared with ONNX Runtime when this section was written."
        )
    trust.append("Every section explains this version and no other; its digest names its files.")
    return Section(
        id="model",
        title="The model",
        question="What was explained?",
        reading="each bar is one layer, in the order of evaluation, as long as the layer has learned numbers.",
        figures=[_layers(subject), _methods(subject)],
        settings=settings,
        trust=trust,
    )


def _layers(subject: Subject) -> Figure:
    layers = subject.detail.layers
    rows = [
        Bar(_named(layer), layer.parameter_count, note=f"{layer.op}, {_shape(layer.shape)}", accent=layer.is_output)
        for layer in layers
    ]
    largest = max(layers, key=lambda layer: layer.parameter_count)
    affine = sum(layer.affine for layer in layers)
    return Figure(
        title="Learned numbers by layer",
        body=bars(rows, "learned numbers", "{:,.0f}".format),
        words=f"{len(layers)} layers from {layers[0].name} to {layers[-1].name}; {largest.name} has most learned "
        f"numbers, {largest.parameter_count:,} of {subject.detail.parameter_count:,}. Affine by structure: {affine}.",
        data=Data.of(
            ("layer", "operation", "output type", "output shape", "learned numbers", "affine"),
            [
                (layer.name, layer.op, layer.data_type, _shape(layer.shape), layer.parameter_count, str(layer.affine))
                for layer in layers
            ],
        ),
    )


def _methods(subject: Subject) -> Figure:
    rows = [
        (support.method, "yes" if support.supported else "no", support.runtime, support.reason or "-")
        for support in subject.detail.methods
    ]
    supported = [row[0] for row in rows if row[1] == "yes"]
    return Figure(
        title="Families of explanation",
        body=macro("plain_table", ("family", "supported", "evaluated by", "why not"), rows, "Families of explanation"),
        words=f"{len(supported)} of {len(rows)} families are supported: {', '.join(supported) or 'none'}.",
        data=Data.of(("family", "supported", "evaluated by", "why not"), rows),
    )


def _named(layer: Layer) -> str:
    return f"{layer.name} (output)" if layer.is_output else layer.name


def _shape(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return "of a shape that the file does not tell"
    return "[" + ", ".join("any" if length < 0 else str(length) for length in shape) + "]"
