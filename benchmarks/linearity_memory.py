"""Measures some images in a process of its own and tells the most memory that the process held, in bytes.

python -m benchmarks.linearity_memory saved_model|onnx <file> <images.npz> <instances>
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sidelight_engines.linearity import measure_linearity

from benchmarks.linearity import PARAMETERS, all_layers, open_runtime


def main() -> None:
    kind, model, data, instances = sys.argv[1:]
    graph, runtime = open_runtime(kind, Path(model))
    x = np.load(data)["x"]
    x = np.resize(x, (int(instances), *x.shape[1:]))
    measure_linearity(graph, runtime, x, all_layers(PARAMETERS))
    # The rusage of a process begins with what its parent held; this does not.
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    print(int(peak.split()[1]) * 1024)


if __name__ == "__main__":
    main()
