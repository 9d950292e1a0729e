"""Runs the benchmarks: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# Before TensorFlow is imported by anything.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks import influence, linearity, patterns, similarity

_RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Sidelight.")
    parser.add_argument("--reference-python", type=Path, help="the interpreter with the reference libraries")
    parser.add_argument("--images", type=Path, help="an .npz file with x (n, 28, 28) uint8 and y (n,)")
    parser.add_argument("--repetitions", type=int, default=5, help="turns of each contender")
    parser.add_argument("--instances", type=int, default=1000, help="images of the first comparison")
    parser.add_argument("--folder", type=Path, help="where to keep the trained network")
    parser.add_argument("--references", type=int, default=similarity.REFERENCES, help="references that are indexed")
    parser.add_argument("--examples", type=int, default=patterns.EXAMPLES, help="images whose patterns are counted")
    parser.add_argument("--ethik-python", type=Path, help="the interpreter with ethik")
    parser.add_argument("--only", choices=["linearity", "similarity", "patterns", "influence"], help="one benchmark")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="where to write the results")
    given = parser.parse_args()
    common = {"images": given.images, "reference_python": given.reference_python, "repetitions": given.repetitions}
    runs = {
        "linearity": lambda: linearity.run(linearity.Setting(**common, instances=given.instances, folder=given.folder)),
        "similarity": lambda: similarity.run(
            similarity.Setting(**common, references=given.references, folder=given.folder)
        ),
        "patterns": lambda: patterns.run(
            patterns.Setting(images=given.images, repetitions=given.repetitions, examples=given.examples)
        ),
        "influence": lambda: influence.run(
            influence.Setting(given.images, ethik_python=given.ethik_python, repetitions=given.repetitions)
        ),
    }
    for name, run in runs.items():
        if given.only in (None, name):
            for report in run():
                report.write(given.results)


if __name__ == "__main__":
    main()
