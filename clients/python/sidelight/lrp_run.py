"""The calls that one use of `Client.lrp` takes, and their answers as one result.

Explanations of different instances do not depend on each other, so the result does not depend on the split.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sidelight.arrays import Inputs, from_tensor
from sidelight.decode import decode_picture, decode_provenance
from sidelight.errors import InvalidArgument
from sidelight.instances_run import InstancesRun
from sidelight.lrp import LEDGER_COLUMNS, AppliedRule, LedgerEntry, LrpExplanation
from sidelight.lrp_options import LrpOptions, lrp_request
from sidelight.provenance import total_provenance
from sidelight.selection import ReferenceSelection
from sidelight.v1 import lrp_pb2, tensor_pb2

# Room for names, shapes and framing beside the bytes of the arrays.
_ENVELOPE_BYTES = 64 * 1024
# How many times the size of the inputs the relevance at one layer is taken to have, and at all of them, when the size
# of a response is foreseen.
_LAYER_INPUTS = 16
_ALL_LAYERS_INPUTS = 512
# Of an explanation: its figures, and its share of the ledger.
_BYTES_PER_EXPLANATION = 16 * 1024


class LrpRun(InstancesRun[lrp_pb2.ExplainLrpRequest, lrp_pb2.ExplainLrpResponse]):
    """The calls that one use of `Client.lrp` takes."""

    def __init__(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        options: LrpOptions,
        *,
        instances_per_call: int | None,
        paced: bool,
        max_message_bytes: int,
    ) -> None:
        """Checks what can be checked without a server.

        Args:
            model: which, as `parse_model` reads it.
            x: the instances.
            options: the options of the call.
            instances_per_call: at most so many per call; None to let the size of messages decide.
            paced: whether to make calls of about a second, so that progress can be told.
            max_message_bytes: the largest message of the channel.
        """
        super().__init__(lrp_request(model, options), x)
        if not self._arrays:
            return
        self._check_target()
        drawn = self._request.HasField("render")
        limit = self._plan(
            self._largest_call(max_message_bytes), instances_per_call, 1.0 if paced and not drawn else None
        )
        if drawn and self.total > limit:
            raise InvalidArgument(
                f"pictures are drawn from one call, which has room for {limit} of these {self.total} instances; "
                "give fewer instances, or leave out picture="
            )

    def result(self) -> LrpExplanation:
        """Puts the responses together."""
        return decode_lrp(self._responses)

    def _check_target(self) -> None:
        target = self._request.parameters.target
        what = target.WhichOneof("what")
        if what == "class_per_instance":
            given = len(target.class_per_instance.indices)
        elif what == "relevance":
            given = target.relevance.shape[0] if target.relevance.shape else 0
        else:
            return
        if given != self.total:
            raise InvalidArgument(f"{what} has {given} rows where x has {self.total} instances; give one for each")

    def _count(self, response: lrp_pb2.ExplainLrpResponse) -> int:
        return response.inputs[0].tensor.shape[0]

    def _cut(self, request: lrp_pb2.ExplainLrpRequest, rows: slice) -> None:
        if self._sent == self.total:
            return
        request.parameters.first_instance += rows.start
        target, whole = request.parameters.target, self._request.parameters.target
        if whole.WhichOneof("what") == "class_per_instance":
            del target.class_per_instance.indices[:]
            target.class_per_instance.indices.extend(whole.class_per_instance.indices[rows])
        elif whole.WhichOneof("what") == "relevance":
            size = len(whole.relevance.raw) // self.total
            target.relevance.raw = whole.relevance.raw[rows.start * size : rows.stop * size]
            target.relevance.shape[0] = self._sent

    def _largest_call(self, max_message_bytes: int) -> int:
        """How many instances go into one request, and their results into one response."""
        parameters = self._request.parameters
        relevance = len(parameters.target.relevance.raw) // max(self.total, 1)
        fixed = self._request.ByteSize() - relevance * self.total + _ENVELOPE_BYTES
        each = self._bytes_each() + relevance
        if fixed + each > max_message_bytes:
            raise InvalidArgument(
                f"one instance and the rest of a request take {fixed + each} bytes, where a message may have "
                f"{max_message_bytes}; raise max_message_bytes here and on the server"
            )
        numbers = sum(math.prod(array.shape[1:]) for array in self._arrays.values())
        selection = parameters.layers
        times = 1 + (_ALL_LAYERS_INPUTS if selection.all else _LAYER_INPUTS * len(selection.names))
        answer = self._targets() * (4 * numbers * times + _BYTES_PER_EXPLANATION)
        return max(1, min((max_message_bytes - fixed) // max(each, 1), max_message_bytes // answer))

    def _targets(self) -> int:
        """How many explanations there are of each instance; given relevance may mean one or several."""
        target = self._request.parameters.target
        if target.WhichOneof("what") == "classes":
            return len(target.classes.indices)
        shape = target.relevance.shape
        return shape[1] if len(shape) > 2 else 1


def decode_lrp(responses: list[lrp_pb2.ExplainLrpResponse]) -> LrpExplanation:
    """Puts the responses to consecutive instances together as one explanation.

    Args:
        responses: in the order of the instances, at least one, of the same parameters.
    """
    first = responses[0]
    count = sum(response.inputs[0].tensor.shape[0] for response in responses)
    explained = [one for response in responses for one in response.explained]

    def column(name: str) -> NDArray[Any]:
        return np.array([getattr(one, name) for one in explained]).reshape(count, -1)

    def optional(name: Literal["pixel_flipping_auc", "random_logit_similarity"]) -> NDArray[Any] | None:
        return column(name) if explained and explained[0].HasField(name) else None

    def entry(position: int) -> LedgerEntry:
        same = [response.ledger[position] for response in responses]
        columns = {
            name: np.array([value for one in same for value in getattr(one, name)], np.float64).reshape(count, -1)
            for name in LEDGER_COLUMNS
        }
        return LedgerEntry(layer=same[0].layer, **columns)

    figures = ("logit", "relevance_out", "relevance_in", "conservation_gap", "ledger_residual", "sparseness", "entropy")
    return LrpExplanation(
        inputs=_join([response.inputs for response in responses]),
        layers=_join([response.layers for response in responses]),
        classes=column("class_index").astype(np.int64),
        **{name: column(name) for name in figures},
        pixel_flipping_auc=optional("pixel_flipping_auc"),
        random_logit_similarity=optional("random_logit_similarity"),
        ledger=tuple(entry(position) for position in range(len(first.ledger))),
        applied_rules=tuple(
            AppliedRule(rule.layer, rule.node, rule.op, rule.rule, rule.fallback) for rule in first.applied_rules
        ),
        head_cut_at=first.head_cut_at,
        provenance=total_provenance([decode_provenance(response.provenance) for response in responses]),
        pictures=tuple(decode_picture(picture) for response in responses for picture in response.pictures),
    )


def _join(parts: list[Any]) -> dict[str, NDArray[Any]]:
    def whole(same: tuple[tensor_pb2.NamedTensor, ...]) -> NDArray[Any]:
        return np.concatenate([from_tensor(named.tensor) for named in same])

    return {same[0].name: whole(same) for same in zip(*parts, strict=True)}
