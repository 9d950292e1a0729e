"""How a caller points at things of the server: a model version, examples of a reference set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sidelight.errors import InvalidArgument
from sidelight.v1 import model_pb2, reference_pb2


@dataclass(frozen=True)
class ReferenceSelection:
    """Examples of a reference set that the server holds, in place of an array.

    The steps apply in this order: all examples or `indices`, then `classes`, then `sample`.

    Attributes:
        reference: the name of the reference set.
        digest: if given, the set must have this digest.
        indices: positions in the set, from 0, in the order wanted; all if empty.
        classes: the classes to keep, from 0; all if empty.
        by_prediction: whether `classes` are those that the model predicts, rather than the labels.
        sample: how many to draw at random, without replacement, of what is left; all if None.
        sample_seed: the seed of that draw; the server's default if None.
    """

    reference: str
    digest: str = ""
    indices: Sequence[int] = ()
    classes: Sequence[int] = ()
    by_prediction: bool = False
    sample: int | None = None
    sample_seed: int | None = None

    def to_proto(self) -> reference_pb2.ReferenceSelection:
        """The message that says the same."""
        message = reference_pb2.ReferenceSelection(reference=self.reference, digest=self.digest, indices=self.indices)
        if self.classes:
            message.class_filter.classes.extend(self.classes)
            if self.by_prediction:
                message.class_filter.source = reference_pb2.CLASS_SOURCE_PREDICTION
        if self.sample is not None:
            message.sample.count = self.sample
            if self.sample_seed is not None:
                message.sample.seed = self.sample_seed
        return message


def parse_model(model: str) -> model_pb2.ModelSelector:
    """Reads ``"digits"``, ``"digits:3"`` (a version) or ``"digits@stable"`` (a label).

    Raises:
        InvalidArgument: the text is none of these.
    """
    remedy = 'give "name", "name:version" or "name@label"'
    for mark in "@:":
        name, found, choice = model.rpartition(mark)
        if not found:
            continue
        if not name or not choice:
            raise InvalidArgument(f"model {model!r} has nothing on one side of the {mark!r}; {remedy}")
        if mark == "@":
            return model_pb2.ModelSelector(name=name, label=choice)
        if not (choice.isascii() and choice.isdecimal()):
            raise InvalidArgument(f"model {model!r}: version {choice!r} is not a whole number; {remedy}")
        return model_pb2.ModelSelector(name=name, version=int(choice))
    if not model:
        raise InvalidArgument(f"the model is empty; {remedy}")
    return model_pb2.ModelSelector(name=model)
