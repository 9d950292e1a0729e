"""Every registered operation against ONNX's own test cases.

The cases come with the onnx package: for each operation the models and data that define it for backend
writers, and small models converted from PyTorch 0.3, with opset 6. What an entry of the table refuses is
listed here, with the reason, and must indeed be refused.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from evaluate import evaluate
from onnx import helper, numpy_helper
from sidelight_engines.errors import ModelInvalid, UnsupportedOp
from sidelight_engines.graph.onnx_model import describe_onnx_model
from sidelight_engines.ops import registered

# Case name -> why it is refused.
REFUSED = {
    r"cast(like)?_.*(FLOAT8|FLOAT4|INT4|INT2).*": "types that TensorFlow computes nothing with",
    r"(equal|not_equal)_string.*": "text is not a number",
    r"loop(13_seq|16_seq_none)": "sequences and optional values are not tensors",
    r"identity_(sequence|opt)": "sequences and optional values are not tensors",
    r"batchnorm_.*_training_mode": "the training form makes statistics of the batch",
    r"training_dropout.*": "the training form is random",
    r"maxpool_with_argmax.*": "the positions of the maxima are not made",
    r"resize_tf_crop_and_resize.*": "the region of interest is not covered",
    r"resize_.*antialias.*": "antialiasing is not covered",
}

# Refused or not, by the numbers of the cases: fewer would mean that cases are lost on the way.
FEWEST_CASES = 880

# Operations without a case of their own, tried in other tests: the models of scikit-learn with ONNX Runtime.
WITHOUT_CASES = {"LinearClassifier", "LinearRegressor", "Normalizer", "Scaler"}

# Where every input is data, rather than a parameter that exporters write as a constant.
ALL_FED = {
    *("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mod", "Mul", "Or", "Pow"),
    *("Sub", "Xor", "Max", "Mean", "Min", "Sum", "Where", "Concat", "Einsum", "Gemm", "MatMul"),
}

# By dtype of the output, where it is coarser than the case says. ONNX computed the expected values in single
# precision and rounded once; TensorFlow rounds after every operation.
COARSE = {"float16": 4e-3, "bfloat16": 3e-2}


@dataclass(frozen=True)
class Case:
    name: str
    model: onnx.ModelProto
    inputs: list[Any]
    outputs: list[Any]
    rtol: float
    atol: float


# Modules of cases that take long to compute and hold nothing that is registered.
_OTHERS = {"attention", "flexattention", "image_decoder", "linear_attention", "lppool"}


def _node_cases() -> Iterator[Case]:
    """The cases of one node each; those of several spell out an operation of their own."""
    package = importlib.import_module("onnx.backend.test.case.node")
    with warnings.catch_warnings():
        # Cases that divide by zero or overflow on purpose.
        warnings.simplefilter("ignore", RuntimeWarning)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.rpartition(".")[2] not in _OTHERS:
                importlib.import_module(module.name)
    for case in package._NodeTestCases:
        if len(case.model.graph.node) > 1:
            continue
        for inputs, outputs in case.data_sets:
            yield Case(case.name.removeprefix("test_"), case.model, inputs, outputs, case.rtol, case.atol)


def _converted_cases() -> Iterator[Case]:
    data = Path(onnx.__file__).parent / "backend/test/data"
    for folder in sorted([*data.glob("pytorch-converted/*"), *data.glob("pytorch-operator/*")]):
        if not (folder / "model.onnx").exists():
            continue
        model = onnx.load(folder / "model.onnx")
        inputs, outputs = (
            [onnx.load_tensor(path) for path in sorted((folder / "test_data_set_0").glob(f"{kind}_*.pb"))]
            for kind in ("input", "output")
        )
        yield Case(folder.name.removeprefix("test_"), model, inputs, outputs, 1e-3, 1e-7)


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


@pytest.fixture(scope="module")
def cases() -> dict[str, list[Case]]:
    """Operation (the last one of a model) -> its cases."""
    covered = {(entry.domain, entry.op) for entry in registered()}
    grouped: dict[str, list[Case]] = defaultdict(list)
    for case in [*_node_cases(), *_converted_cases()]:
        nodes = case.model.graph.node
        if all((node.domain, node.op_type) in covered for node in nodes):
            grouped[nodes[-1].op_type].append(case)
    return grouped


def _run(case: Case) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    initializers = {initializer.name for initializer in graph.initializer}
    given = [value.name for value in graph.input if value.name not in initializers]
    values = {name: _array(value) for name, value in zip(given, case.inputs, strict=False)}
    all_fed = graph.node[0].op_type in ALL_FED
    fed = {}
    for position, (name, value) in enumerate(values.items()):
        data = position == 0 or all_fed or (len(graph.node) > 1 and np.asarray(value).dtype.kind == "f")
        if data:
            fed[name] = value
        else:
            graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    # Truth values are no outputs to explain; as numbers they are.
    for output in graph.output:
        if output.type.tensor_type.elem_type == onnx.TensorProto.BOOL:
            model.opset_import[0].version = max(model.opset_import[0].version, 6)  # Cast as it is now
            graph.node.append(
                helper.make_node("Cast", [output.name], [f"{output.name}_number"], to=onnx.TensorProto.INT32)
            )
            output.name += "_number"
            output.type.tensor_type.elem_type = onnx.TensorProto.INT32
    described = describe_onnx_model(model)
    names = [output.name for output in graph.output]
    found = evaluate(described, fed, names)
    for name, want, got in zip(names, case.outputs, found, strict=True):
        want = np.asarray(_array(want))
        assert got.shape == want.shape, name
        if want.dtype != bool:
            assert got.dtype == want.dtype, name
        rtol = max(case.rtol, COARSE.get(want.dtype.name, 0.0))
        atol = max(case.atol, 1e-6, COARSE.get(want.dtype.name, 0.0))
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=rtol, atol=atol, err_msg=name)


def _problem(case: Case) -> str | None:
    refused = any(re.fullmatch(pattern, case.name) for pattern in REFUSED)
    try:
        _run(case)
    except (UnsupportedOp, ModelInvalid) as error:
        return None if refused else f"{case.name}: refused: {error}"
    except Exception as error:
        # Whatever else goes wrong in one case must not hide the others.
        return f"{case.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return f"{case.name}: no longer refused" if refused else None


@pytest.mark.parametrize("op", sorted({entry.op for entry in registered()} - WITHOUT_CASES))
def test_operation_agrees_with_the_cases_of_onnx(op: str, cases: dict[str, list[Case]]) -> None:
    assert cases[op], f"onnx has no case for {op}"
    problems = [problem for case in cases[op] if (problem := _problem(case)) is not None]
    assert not problems, "\n".join(problems)


def test_hardly_any_case_is_refused(cases: dict[str, list[Case]]) -> None:
    names = [case.name for group in cases.values() for case in group]
    refused = [name for name in names if any(re.fullmatch(pattern, name) for pattern in REFUSED)]
    assert len(names) - len(refused) >= FEWEST_CASES


def test_every_listed_refusal_is_one_of_a_case(cases: dict[str, list[Case]]) -> None:
    names = [case.name for group in cases.values() for case in group]
    assert [pattern for pattern in REFUSED if not any(re.fullmatch(pattern, name) for name in names)] == []
