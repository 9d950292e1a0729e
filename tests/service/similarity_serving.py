"""Digits, their reference sets, and requests for similarity."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from serving import Running, inline, raw_tensor
from sidelight.v1 import model_pb2, reference_pb2, similarity_pb2
from test_references import upload

GOLDEN = Path(__file__).parents[1] / "golden"
SIMILARITY = GOLDEN / "similarity"
INSTANCES = 8
REFERENCES = 200

_INPUTS = np.load(SIMILARITY / "inputs.npz")
IMAGES: np.ndarray[Any, Any] = _INPUTS["x"]
LABELS: np.ndarray[Any, Any] = _INPUTS["labels"].astype(np.int64)
X, Y = IMAGES[:INSTANCES], LABELS[:INSTANCES]


def put_digits(repository: Path, name: str = "digits", version: int = 1) -> Path:
    """The network of the goldens as ONNX."""
    folder = repository / name / str(version)
    folder.mkdir(parents=True)
    shutil.copy(GOLDEN / "linearity" / "classic_8x8.onnx", folder / "model.onnx")
    return folder


def put_saved_digits(repository: Path, name: str = "saved", version: int = 1) -> Path:
    """The network of the goldens as a SavedModel."""
    folder = repository / name / str(version)
    shutil.copytree(SIMILARITY / "classic_8x8", folder)
    return folder


async def put_references(server: Running, name: str = "train", *, labels: bool = True, copies: int = 1) -> str:
    """Uploads the references of the goldens, several times over if wanted; the digest of the set."""
    x, y = np.tile(IMAGES[INSTANCES:], (copies, 1, 1, 1)), np.tile(LABELS[INSTANCES:], copies)
    made = await server.references.CreateReference(iter(upload(name, x, y if labels else None, rows=100)))
    return str(made.reference.digest)


def similarity_request(
    model: str = "digits",
    x: np.ndarray[Any, Any] = X,
    labels: np.ndarray[Any, Any] | None = Y,
    reference: str = "train",
    **parameters: Any,
) -> similarity_pb2.ExplainSimilarityRequest:
    """A request; labels None are left to the model's predictions."""
    selection = parameters.pop("selection", reference_pb2.ReferenceSelection(reference=reference))
    given = similarity_pb2.SimilarityParameters(reference=selection, **parameters)
    if labels is not None:
        given.labels.CopyFrom(raw_tensor(labels))
    return similarity_pb2.ExplainSimilarityRequest(
        model=model_pb2.ModelSelector(name=model), instances=inline(x), parameters=given
    )


def scores_of(response: similarity_pb2.ExplainSimilarityResponse) -> np.ndarray[Any, Any]:
    """Every score, (instances, references)."""
    return np.stack([np.frombuffer(ranking.scores.raw, "<f4") for ranking in response.rankings]).astype(np.float64)


def indices_of(ranking: similarity_pb2.SimilarityRanking) -> list[int]:
    """The most similar, in order."""
    return [example.index for example in ranking.most_similar]
