"""Layer-wise relevance propagation: the engine's results to protobuf."""

from __future__ import annotations

import math

from sidelight.v1 import explanation_pb2, lrp_pb2, tensor_pb2
from sidelight_engines.lrp import Explained, LedgerEntry, LrpResult, Relevance

from sidelight_service.convert.tensors import array_to_tensor

LEDGER_COLUMNS = ("relevance_out", "relevance_in", "bias", "stabiliser", "empty_branch", "sink")
"""The lists of a ledger entry: one number per instance and target, instance outermost."""


def result_to_proto(result: LrpResult, provenance: explanation_pb2.Provenance) -> lrp_pb2.ExplainLrpResponse:
    """Writes the result; pictures are still missing."""
    return lrp_pb2.ExplainLrpResponse(
        inputs=[_relevance_to_proto(relevance) for relevance in result.inputs],
        layers=[_relevance_to_proto(relevance) for relevance in result.layers],
        explained=[_explained_to_proto(explained) for explained in result.explained],
        ledger=[_entry_to_proto(entry) for entry in result.ledger],
        applied_rules=[
            lrp_pb2.LrpAppliedRule(layer=rule.layer, node=rule.node, op=rule.op, rule=rule.rule, fallback=rule.fallback)
            for rule in result.applied_rules
        ],
        head_cut_at=result.head_cut_at,
        provenance=provenance,
    )


def _relevance_to_proto(relevance: Relevance) -> tensor_pb2.NamedTensor:
    return tensor_pb2.NamedTensor(name=relevance.name, tensor=array_to_tensor(relevance.values))


def _explained_to_proto(explained: Explained) -> lrp_pb2.LrpExplained:
    return lrp_pb2.LrpExplained(
        instance=explained.instance,
        class_index=explained.class_index,
        # A caller's own relevance belongs to no logit.
        logit=0.0 if math.isnan(explained.logit) else explained.logit,
        relevance_out=explained.relevance_out,
        relevance_in=explained.relevance_in,
        conservation_gap=explained.conservation_gap,
        ledger_residual=explained.ledger_residual,
        sparseness=explained.sparseness,
        entropy=explained.entropy,
        pixel_flipping_auc=explained.pixel_flipping_auc,
        random_logit_similarity=explained.random_logit_similarity,
    )


def _entry_to_proto(entry: LedgerEntry) -> lrp_pb2.LrpLedgerEntry:
    columns = {name: getattr(entry, name).ravel().tolist() for name in LEDGER_COLUMNS}
    return lrp_pb2.LrpLedgerEntry(layer=entry.layer, **columns)
