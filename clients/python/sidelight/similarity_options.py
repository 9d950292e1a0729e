"""What `Client.similarity` and `Client.submit_gradient_index` take, and how it is written into requests.

A field is sent only when the caller gave it, so each default is stated once: by the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

from numpy.typing import ArrayLike

from sidelight.arrays import to_array, to_tensor
from sidelight.errors import InvalidArgument
from sidelight.selection import ReferenceSelection, parse_model
from sidelight.signatures import shows
from sidelight.v1 import explanation_pb2, job_pb2, reference_pb2, similarity_pb2
from sidelight.words import choose

_FUNCTION_PREFIX = "grad-"
_NUMBERS = ("top", "bottom", "norm_offset")


class SimilarityOptions(TypedDict, total=False):
    """The options of `Client.similarity`, which describes them; None is the same as not given."""

    reference: str | ReferenceSelection | None
    labels: ArrayLike | None
    label_source: str | None
    function: str | None
    loss: str | None
    output: str | None
    layers: str | Sequence[str] | None
    top: int | None
    bottom: int | None
    all_scores: bool | None
    examples: bool | None
    class_means: bool | None
    layer_contributions: bool | None
    self_influence: bool | None
    aggregate: bool | None
    checkpoints: Mapping[str, float] | Iterable[tuple[str, float]] | None
    norm_offset: float | None
    picture: str | None
    picture_width: int | None
    picture_instances: int | None
    picture_dark: bool | None


shows_similarity_options = shows(SimilarityOptions)


_FLAGS = {
    "all_scores": "all_scores",
    "examples": "include_examples",
    "class_means": "class_means",
    "layer_contributions": "layer_contributions",
    "self_influence": "self_influence",
    "aggregate": "aggregate_instances",
}


def similarity_request(model: str, options: SimilarityOptions) -> similarity_pb2.ExplainSimilarityRequest:
    """Writes everything but the instances.

    Raises:
        InvalidArgument: a value can not be sent, or no references were given.
        TypeError: an option that does not exist.
    """
    unknown = options.keys() - SimilarityOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"similarity() got an unexpected keyword argument {min(unknown)!r}")
    reference = options.get("reference")
    if reference is None:
        raise InvalidArgument("no references are given; name a reference set: reference=")
    parameters = similarity_pb2.SimilarityParameters(
        reference=_selection(reference), output=options.get("output") or "", checkpoints=_checkpoints(options)
    )
    if (labels := options.get("labels")) is not None:
        parameters.labels.CopyFrom(to_tensor(to_array(labels, "labels"), "labels"))
    if (source := options.get("label_source")) is not None:
        parameters.label_source = choose(similarity_pb2.LabelSource.DESCRIPTOR, source, "label_source")
    if (function := options.get("function")) is not None:
        parameters.function = choose_function(function)
    if (loss := options.get("loss")) is not None:
        parameters.loss = choose(similarity_pb2.Loss.DESCRIPTOR, loss, "loss")
    layers = options.get("layers")
    if layers == "all":
        parameters.layers.all = True
    elif layers is not None:
        parameters.layers.names.extend([layers] if isinstance(layers, str) else layers)
    for name in _NUMBERS:
        if (number := options.get(name)) is not None:
            setattr(parameters, name, number)
    for name, field in _FLAGS.items():
        if (flag := options.get(name)) is not None:
            setattr(parameters, field, flag)
    request = similarity_pb2.ExplainSimilarityRequest(model=parse_model(model), parameters=parameters)
    if (picture := options.get("picture")) is not None:
        request.render.format = choose(explanation_pb2.PictureFormat.DESCRIPTOR, picture, "picture")
        for name, field in (
            ("picture_width", "width_pixels"),
            ("picture_instances", "max_instances"),
            ("picture_dark", "dark"),
        ):
            if (value := options.get(name)) is not None:
                setattr(request.render, field, value)
    return request


def choose_function(word: str) -> similarity_pb2.SimilarityFunction.ValueType:
    """Finds a score by ``cos``, ``dot``, ``asym-dot`` or ``relatif``; alibi's ``grad_cos`` and so on are known too.

    Raises:
        InvalidArgument: there is no such score.
    """
    descriptor = similarity_pb2.SimilarityFunction.DESCRIPTOR
    short = word.replace("_", "-").removeprefix(_FUNCTION_PREFIX)
    numbers = {
        value.name.removeprefix("SIMILARITY_FUNCTION_").lower().replace("_", "-").removeprefix(_FUNCTION_PREFIX): value
        for value in descriptor.values
        if value.number
    }
    if short not in numbers:
        choices = " or ".join(map(repr, numbers))
        raise InvalidArgument(f"function is {word!r}; give {choices}, or leave it out for the server's default")
    return similarity_pb2.SimilarityFunction.ValueType(numbers[short].number)


def gradient_index_request(
    model: str, reference: str, loss: str | None, label_source: str | None, output: str | None, precision: str | None
) -> job_pb2.BuildGradientIndexRequest:
    """Writes what is to be built.

    Raises:
        InvalidArgument: a value can not be sent.
    """
    request = job_pb2.BuildGradientIndexRequest(model=parse_model(model), reference=reference, output=output or "")
    if loss is not None:
        request.loss = choose(similarity_pb2.Loss.DESCRIPTOR, loss, "loss")
    if label_source is not None:
        request.label_source = choose(similarity_pb2.LabelSource.DESCRIPTOR, label_source, "label_source")
    if precision is not None:
        request.precision = choose(job_pb2.IndexPrecision.DESCRIPTOR, precision, "precision")
    return request


def _selection(reference: str | ReferenceSelection) -> reference_pb2.ReferenceSelection:
    return (ReferenceSelection(reference) if isinstance(reference, str) else reference).to_proto()


def _checkpoints(options: SimilarityOptions) -> list[similarity_pb2.Checkpoint]:
    given = options.get("checkpoints")
    if given is None:
        return []
    pairs = given.items() if isinstance(given, Mapping) else given
    return [similarity_pb2.Checkpoint(model=parse_model(model), weight=weight) for model, weight in pairs]
