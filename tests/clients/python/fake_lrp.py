"""Relevance as the fake server has it: an instance times its place in the whole list and the class.

So a result tells whether instances, places and classes arrived as they should.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sidelight.v1 import explanation_pb2, lrp_pb2, model_pb2, tensor_pb2


def explain_lrp(request: lrp_pb2.ExplainLrpRequest, x: np.ndarray[Any, Any]) -> lrp_pb2.ExplainLrpResponse:
    parameters, count = request.parameters, len(x)
    target = parameters.target
    what = target.WhichOneof("what")
    if what == "classes":
        classes = np.tile(np.array(target.classes.indices), (count, 1))
    elif what == "class_per_instance":
        classes = np.array(target.class_per_instance.indices).reshape(count, 1)
    elif what == "relevance":
        start = np.frombuffer(target.relevance.raw, np.float32).reshape(count, -1)
        classes = start.sum(axis=1, keepdims=True)
    else:
        classes = np.full((count, 1), 7)
    places = parameters.first_instance + np.arange(count) + 1
    spread = (count, classes.shape[1], *(1 for _ in x.shape[1:]))
    relevance = (x[:, np.newaxis] * (places[:, np.newaxis] * classes).reshape(spread)).astype(np.float32)
    totals = relevance.reshape(*classes.shape, -1).sum(axis=2).ravel().astype(float).tolist()
    response = lrp_pb2.ExplainLrpResponse(
        inputs=[_named("x", relevance)],
        layers=[_named(name, relevance[..., :1]) for name in parameters.layers.names],
        head_cut_at="softmax",
        applied_rules=[lrp_pb2.LrpAppliedRule(layer="conv_1", node="c", op="Conv", rule="z", fallback=False)],
        provenance=explanation_pb2.Provenance(
            model=request.model.name,
            version=3,
            digest="sha256:" + "a" * 64,
            runtime=model_pb2.RUNTIME_TENSORFLOW,
            forward_rows=count,
        ),
    )
    quality = parameters.quality
    for place, total in enumerate(totals):
        response.explained.add(
            instance=place // classes.shape[1],
            class_index=-1 if what == "relevance" else int(classes.ravel()[place]),
            logit=total,
            relevance_out=total * 2,
            relevance_in=total,
            conservation_gap=0.5,
            ledger_residual=1e-7,
            sparseness=0.25,
            entropy=2.0,
            pixel_flipping_auc=0.75 if quality.pixel_flipping_steps else None,
            random_logit_similarity=0.125 if quality.random_logit else None,
        )
    if not parameters.HasField("gradient"):
        for layer in ("conv_1", ""):
            response.ledger.add(
                layer=layer,
                relevance_out=[2 * total for total in totals],
                relevance_in=totals,
                bias=totals,
                stabiliser=[0.0] * len(totals),
                empty_branch=[0.0] * len(totals),
                sink=[0.0] * len(totals),
            )
    if request.render.format:
        for name in ("relevance", "relevance-ledger"):
            response.pictures.add(name=name, format=request.render.format, data=name.encode(), width_pixels=9)
    return response


def _named(name: str, array: np.ndarray[Any, Any]) -> tensor_pb2.NamedTensor:
    tensor = tensor_pb2.Tensor(data_type=tensor_pb2.DATA_TYPE_FLOAT32, shape=array.shape, raw=array.tobytes())
    return tensor_pb2.NamedTensor(name=name, tensor=tensor)
