"""Writes the golden values of the linearity measure: what alibi 0.9.4 gives for a small network.

Run in the pinned environment of `requirements.txt` beside this file:

    python benchmarks/goldens/make_linearity_goldens.py            # values for the network at hand
    python benchmarks/goldens/make_linearity_goldens.py --train    # trains the network anew first

The network is evaluated by ONNX Runtime, by the reference as by Sidelight, so that only the method is
compared.
"""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parents[2] / "tests" / "golden" / "linearity"
MODEL = FOLDER / "classic_8x8.onnx"
SIDE = 8
FILTERS = 8
UNITS = 32
INSTANCES = 12
REFERENCES = 150
SEED = 20240607
# In the order of evaluation; the last makes the output.
LAYERS = (
    "conv_1",
    "relu_1",
    "maxp_1",
    "conv_2",
    "relu_2",
    "maxp_2",
    "flat",
    "dense_1",
    "relu_3",
    "dense_2",
    "softmax",
)
PACKAGES = ("alibi", "tensorflow-cpu", "numpy", "scikit-learn", "onnx", "onnxruntime")


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits as (n, 8, 8, 1) float32 from 0 to 1, and their labels, shuffled."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(images))
    return (images[order].reshape(-1, SIDE, SIDE, 1) / 16).astype(np.float32), labels[order]


def train() -> None:
    """Trains the network and writes it as ONNX, its layers named as in the published example."""
    import keras
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    keras.utils.set_random_seed(0)
    layers = keras.layers
    network = keras.Sequential(
        [
            layers.Input((SIDE, SIDE, 1)),
            layers.Conv2D(FILTERS, 2, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(FILTERS, 2, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(UNITS, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = digits()
    network.fit(x[:1500], y[:1500], epochs=40, batch_size=32, verbose=0)
    print("accuracy on the rest:", network.evaluate(x[1500:], y[1500:], verbose=0)[1])
    weights = [np.asarray(w) for w in network.get_weights()]
    names = ["conv_1_w", "conv_1_b", "conv_2_w", "conv_2_b", "dense_1_w", "dense_1_b", "dense_2_w", "dense_2_b"]
    arrays = [w.transpose(3, 2, 0, 1).copy() if w.ndim == 4 else w for w in weights]
    initializers = [numpy_helper.from_array(array, name) for array, name in zip(arrays, names, strict=True)]
    # TensorFlow pads an even kernel below and to the right.
    pads = {"pads": [0, 0, 1, 1]}
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    node = helper.make_node
    nodes = [
        node("Transpose", ["input"], ["channels_first"], "to_channels_first", perm=[0, 3, 1, 2]),
        node("Conv", ["channels_first", "conv_1_w", "conv_1_b"], ["conv_1"], "conv_1", **pads),
        node("Relu", ["conv_1"], ["relu_1"], "relu_1"),
        node("MaxPool", ["relu_1"], ["maxp_1"], "maxp_1", **pool),
        node("Conv", ["maxp_1", "conv_2_w", "conv_2_b"], ["conv_2"], "conv_2", **pads),
        node("Relu", ["conv_2"], ["relu_2"], "relu_2"),
        node("MaxPool", ["relu_2"], ["maxp_2"], "maxp_2", **pool),
        node("Transpose", ["maxp_2"], ["channels_last"], "to_channels_last", perm=[0, 2, 3, 1]),
        node("Flatten", ["channels_last"], ["flat"], "flat"),
        node("Gemm", ["flat", "dense_1_w", "dense_1_b"], ["dense_1"], "dense_1"),
        node("Relu", ["dense_1"], ["relu_3"], "relu_3"),
        node("Gemm", ["relu_3", "dense_2_w", "dense_2_b"], ["dense_2"], "dense_2"),
        node("Softmax", ["dense_2"], ["softmax"], "softmax", axis=-1),
    ]
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "classic_8x8",
        [tensor("input", TensorProto.FLOAT, ["batch", SIDE, SIDE, 1])],
        [tensor("softmax", TensorProto.FLOAT, ["batch", 10])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, MODEL)


def predictors() -> dict[str, Any]:
    """One predict function per layer."""
    import onnx
    import onnxruntime

    model = onnx.load(MODEL)
    for layer in LAYERS[:-1]:
        model.graph.output.append(onnx.ValueInfoProto(name=layer))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def predictor(layer: str) -> Any:
        return lambda x: session.run([layer], {"input": np.asarray(x, np.float32)})[0]

    return {layer: predictor(layer) for layer in LAYERS}


def cases() -> list[dict[str, Any]]:
    """Each case is one call of `alibi.confidence.linearity_measure`."""
    common = {
        "layer": "softmax",
        "sampling": "grid",
        "aggregation": "global",
        "model_type": "classifier",
        "samples": 20,
        "epsilon": 0.04,
        "resolution": 100,
        "range": "uniform",
        "coefficients": "",
        "calls_before": 0,
        "seed": SEED,
    }
    found = []
    for aggregation in ("global", "pairwise"):
        found += [common | {"layer": layer, "aggregation": aggregation, "model_type": "regressor"} for layer in LAYERS]
        base = common | {"aggregation": aggregation}
        found += [
            base,
            base | {"samples": 2},
            # 5 and 10 grid steps: sizes that are no power of two are drawn with rejection.
            base | {"epsilon": 0.05},
            base | {"epsilon": 0.1, "samples": 7},
            base | {"epsilon": 0.02},
            base | {"epsilon": 0.3, "resolution": 10, "model_type": "regressor"},
            base | {"range": "per_feature"},
            base | {"range": "data"},
            base | {"coefficients": "own"},
            base | {"coefficients": "own", "model_type": "regressor", "layer": "dense_2"},
            base | {"sampling": "knn"},
            base | {"sampling": "knn", "model_type": "regressor", "layer": "conv_2", "samples": 5},
            # The call after another one, without seeding again.
            base | {"calls_before": 1},
            base | {"calls_before": 2, "epsilon": 0.05},
        ]
    return [{"name": f"case_{number:02d}"} | case for number, case in enumerate(found)]


def coefficients(aggregation: str, samples: int) -> np.ndarray:
    """Uneven ones that do not sum to 1."""
    if aggregation == "pairwise":
        return np.array([0.3, 0.6])
    return np.random.RandomState(1).dirichlet(np.ones(samples)) * 1.1


def score(case: dict[str, Any], predict: Any, x: np.ndarray, references: np.ndarray, limits: np.ndarray) -> np.ndarray:
    from alibi.confidence.model_linearity import infer_feature_range, linearity_measure

    ranges = {
        "uniform": np.array([[0.0, 1.0]] * (SIDE * SIDE)),
        "per_feature": limits,
        "data": infer_feature_range(references),
    }
    own = coefficients(case["aggregation"], case["samples"])
    np.random.seed(case["seed"])
    for _ in range(case["calls_before"] + 1):
        found = linearity_measure(
            predict,
            x,
            feature_range=ranges[case["range"]],
            method=case["sampling"],
            X_train=references if case["sampling"] == "knn" else None,
            epsilon=case["epsilon"],
            nb_samples=case["samples"],
            res=case["resolution"],
            alphas=own if case["coefficients"] == "own" else None,
            agg=case["aggregation"],
            model_type=case["model_type"],
        )
    return np.asarray(found)


def samples(x: np.ndarray, limits: np.ndarray) -> dict[str, np.ndarray]:
    """The samples that alibi draws, two calls in a row, for several numbers of grid steps."""
    from alibi.confidence.model_linearity import _sample_grid

    found = {}
    for steps in (2, 3, 4, 5, 8, 10):
        np.random.seed(SEED)
        for call in range(2):
            drawn = _sample_grid(x[:3], limits, epsilon=steps / 100, nb_samples=4, res=100)
            found[f"steps_{steps}_call_{call}"] = drawn
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--train", action="store_true", help="train the network anew")
    FOLDER.mkdir(parents=True, exist_ok=True)
    if arguments.parse_args().train:
        train()
    images, _ = digits()
    x = images[1500 : 1500 + INSTANCES]
    references = np.concatenate([x[:3], images[: REFERENCES - 3]])
    random = np.random.RandomState(2)
    lower = random.uniform(-1, 0, SIDE * SIDE)
    limits = np.stack([lower, lower + random.uniform(0, 2, SIDE * SIDE)], axis=1)
    np.savez_compressed(
        FOLDER / "inputs.npz",
        instances=x,
        references=references,
        minimum=limits[:, 0].reshape(SIDE, SIDE, 1),
        maximum=limits[:, 1].reshape(SIDE, SIDE, 1),
    )
    predict = predictors()
    listed = cases()
    scores = {case["name"]: score(case, predict[case["layer"]], x, references, limits) for case in listed}
    np.savez_compressed(FOLDER / "scores.npz", **scores)
    np.savez_compressed(FOLDER / "samples.npz", **samples(x, limits))
    own = {
        f"{case['name']}": coefficients(case["aggregation"], case["samples"]).tolist()
        for case in listed
        if case["coefficients"]
    }
    provenance = {
        "made_by": "benchmarks/goldens/make_linearity_goldens.py",
        "reference": "alibi.confidence.model_linearity of alibi 0.9.4 (Apache-2.0)",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "seed": SEED,
        "cases": [case | {"coefficients": own.get(case["name"], [])} for case in listed],
    }
    (FOLDER / "cases.json").write_text(json.dumps(provenance, indent=1) + "\n")


if __name__ == "__main__":
    main()
