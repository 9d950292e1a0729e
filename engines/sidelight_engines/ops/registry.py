"""The table of ONNX operations that are covered, and what one entry of it sees of a node.

Which operations are covered, and in which forms, is known without importing TensorFlow: entries are
registered when `sidelight_engines.ops` is imported, a refusal that depends on attributes, opset and declared
types alone is an entry's `check`, and only the lowering itself touches TensorFlow, through its context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
import onnx.numpy_helper

from sidelight_engines.errors import OpProblem
from sidelight_engines.graph.step import TensorType
from sidelight_engines.runtime.runtime import Array

ML_DOMAIN = "ai.onnx.ml"

# The newest operator sets that the table was read against. A newer one may have changed an operation.
NEWEST_OPSETS: Mapping[str, int] = {"": 28, ML_DOMAIN: 5}


@dataclass(frozen=True)
class NodeForm:
    """What a file tells of one node, before anything runs.

    Attributes:
        name: the node's unique name.
        op: its operation.
        domain: its operator domain; empty for ONNX's own.
        opset: the version that the file declares for the domain.
        attributes: name -> Python value; text is `str`.
        inputs: names of the tensors it reads; "" where an optional one is left out.
        outputs: names of the tensors it makes; "" where an optional one is left out.
        types: tensor name -> declared or inferred type, of the whole model.
        constants: tensor name -> constant value, of the whole model.
        opsets: operator domain -> version that the file declares.
    """

    name: str
    op: str
    domain: str
    opset: int
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: Mapping[str, TensorType] = field(default_factory=dict, repr=False)
    constants: Mapping[str, onnx.TensorProto] = field(default_factory=dict, repr=False)
    opsets: Mapping[str, int] = field(default_factory=dict, repr=False)

    def has_input(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.inputs) and self.inputs[index] != ""

    def has_output(self, index: int) -> bool:
        """Whether an optional output is asked for."""
        return index < len(self.outputs) and self.outputs[index] != ""

    def type(self, index: int) -> TensorType:
        """What is known of the type of an input."""
        return self.types.get(self.inputs[index], TensorType()) if self.has_input(index) else TensorType()

    def constant(self, index: int) -> Array | None:
        """The value of an input that is a constant of the file; None if it is computed or left out."""
        proto = self.constants.get(self.inputs[index]) if self.has_input(index) else None
        return None if proto is None else onnx.numpy_helper.to_array(proto)

    def problem(self, reason: str) -> OpProblem:
        """Says why this node is not covered."""
        return OpProblem(self.name, self.op, self.domain, self.opset, reason)


# What TensorFlow computes with. Text, and the packed and 8-bit types of quantised models, are not among them.
_DTYPES = frozenset(
    {"bool", "bfloat16", "float16", "float32", "float64"}
    | {f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)}
)

# Takes a LoweringContext (kept loose: its tensors are TensorFlow's) and gives one tensor or a tuple of them.
Lowering = Callable[[Any], Any]
Check = Callable[[NodeForm], str | None]


@dataclass(frozen=True)
class Entry:
    """How one operation is lowered from one opset on.

    Attributes:
        op: the operation.
        domain: its operator domain.
        since: the first opset version that this form is for.
        lower: makes the TensorFlow form.
        check: says why a node's form is not covered, or None.
        elementwise: whether it computes each element from those at the same place, broadcasting aside.
    """

    op: str
    domain: str
    since: int
    lower: Lowering
    check: Check | None
    elementwise: bool


_ENTRIES: dict[tuple[str, str], list[Entry]] = {}


def register(
    op: str, *, since: int, domain: str = "", check: Check | None = None, elementwise: bool = False
) -> Callable[[Lowering], Lowering]:
    """Registers the decorated function as the lowering of an operation.

    Args:
        op: the operation.
        since: the first opset version that it is right for; it holds until a later registration.
        domain: the operator domain; empty for ONNX's own.
        check: says why a node's form is not covered, or None.
        elementwise: whether it computes each element from those at the same place, broadcasting aside, so
            that the order of axes does not matter to it.
    """

    def add(lower: Lowering) -> Lowering:
        entries = _ENTRIES.setdefault((domain, op), [])
        if any(entry.since == since for entry in entries):
            raise ValueError(f"{op} is registered twice since opset {since}")
        entries.append(Entry(op, domain, since, lower, check, elementwise))
        entries.sort(key=lambda entry: entry.since)
        return lower

    return add


def registered() -> tuple[Entry, ...]:
    """All entries, by domain, operation and opset."""
    return tuple(entry for key in sorted(_ENTRIES) for entry in _ENTRIES[key])


def find(form: NodeForm) -> Entry | OpProblem:
    """Finds the entry for a node, or says why there is none."""
    entries = _ENTRIES.get((form.domain, form.op))
    if entries is None:
        return form.problem("this operation is not covered")
    newest = NEWEST_OPSETS[form.domain]
    if form.opset > newest:
        return form.problem(f"opset {newest} is the newest that is covered; export the model for it or an older one")
    usable = [entry for entry in entries if entry.since <= form.opset]
    if not usable:
        return form.problem(f"it is covered from opset {entries[0].since} on; convert the model to that or a newer one")
    known = [form.types[name].dtype for name in (*form.inputs, *form.outputs) if name in form.types]
    strange = sorted({dtype for dtype in known if dtype not in _DTYPES})
    if strange:
        return form.problem(f"the type {strange[0]} is not covered")
    entry = usable[-1]
    reason = None if entry.check is None else entry.check(form)
    return entry if reason is None else form.problem(reason)


def form_of(
    node: onnx.NodeProto,
    name: str,
    opsets: Mapping[str, int],
    types: Mapping[str, TensorType],
    constants: Mapping[str, onnx.TensorProto],
) -> NodeForm:
    """Reads a node.

    Args:
        node: the node.
        name: the unique name that it goes by.
        opsets: operator domain -> version that the file declares.
        types: tensor name -> declared or inferred type.
        constants: tensor name -> constant value.
    """
    domain = "" if node.domain == "ai.onnx" else node.domain
    attributes = {attribute.name: _python(attribute) for attribute in node.attribute}
    return NodeForm(
        name,
        node.op_type,
        domain,
        opsets.get(domain, 1),
        attributes,
        tuple(node.input),
        tuple(node.output),
        types,
        constants,
        opsets,
    )


def _python(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if attribute.type == onnx.AttributeProto.STRINGS:
        return [text.decode("utf-8", "replace") for text in value]
    if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
        return list(value)
    return value
