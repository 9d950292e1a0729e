"""Builds a gradient index in a process of its own; tells the seconds, and the most memory beyond the model's.

python -m benchmarks.similarity_build <version folder> <images.npy> <labels.npy> <folder of the index> <precision>
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from sidelight_engines.graph.graph import ModelFormat
from sidelight_engines.model import open_model
from sidelight_engines.similarity import (
    Examples,
    IndexOptions,
    Labels,
    Precision,
    SimilarityParameters,
    build_index,
    explain_similarity,
)

DIGEST = "benchmark"


def peak_bytes() -> int:
    """The most memory that this process has held."""
    # The rusage of a process begins with what its parent held; this does not.
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


def main() -> None:
    version, images, labels, folder, precision = sys.argv[1:]
    model = open_model(Path(version), ModelFormat.SAVED_MODEL)
    name = model.graph.inputs[0].name
    x, y = np.load(images, mmap_mode="r"), np.load(labels)
    few = Examples({name: np.asarray(x[:4])}, Labels(y[:4]))
    # The model as it serves: traced, and asked once.
    explain_similarity(model, few, SimilarityParameters(), few)
    before = peak_bytes()
    start = time.perf_counter()
    options = IndexOptions(precision=Precision(precision))
    index = build_index(model, Examples({name: x}, Labels(y)), options, Path(folder), DIGEST, DIGEST)
    answer = {
        "seconds": time.perf_counter() - start,
        "beyond_model": peak_bytes() - before,
        "bytes": index.size_bytes,
        "values": index.rows.layout.values_per_example,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
