"""What an entry of the table sees of the operation that it hands relevance down through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sidelight_engines.errors import OpProblem, UnsupportedOp
from sidelight_engines.lrp.parameters import AttentionRule, EmptyBranchPolicy, LrpFallback
from sidelight_engines.lrp.result import AppliedRule
from sidelight_engines.lrp.rules import Norm, Rule
from sidelight_engines.lrp.structure.batch_axis import BatchAxis
from sidelight_engines.lrp.structure.view import GraphView
from sidelight_engines.lrp.walk.ledger import Ledger
from sidelight_engines.lrp.walk.replicas import Replicas
from sidelight_engines.lrp.walk.zeros import Zeros

Contributions = list[tuple[Any, Any]]
"""What an operation hands down: (tensor that it reads, relevance)."""


@dataclass(frozen=True)
class Options:
    """What a request fixes for all operations.

    Attributes:
        rule_of: the name of an operation -> the rule that the caller's map, or the preset, gives it; None for none.
        sums: the rule of sums that have none.
        averages: the rule of averages that have none.
        empty_branch: what becomes of relevance in empty branches.
        fallback: what becomes of operations without an entry.
        attention: how products in attention are treated.
        box: the least and greatest value that a tensor can have, in its shape with one instance.
    """

    rule_of: Callable[[str], Rule | None]
    sums: Norm
    averages: Rule
    empty_branch: EmptyBranchPolicy
    fallback: LrpFallback
    attention: AttentionRule
    box: Callable[[Any], tuple[Any, Any]]


@dataclass
class Walking:
    """What one traced walk collects.

    Attributes:
        view: the graph.
        replicas: the targets.
        options: what the request fixes.
        ledger: the books.
        applied: the rules of operations, in the order of propagation.
        passed: tensor name -> relevance, of every tensor that relevance has passed.
        adopted: name of an operation that belongs to no layer -> the layer that reads from it.
        zeros: where relevance is known to be 0.
    """

    view: GraphView
    replicas: Replicas
    options: Options
    ledger: Ledger = field(default_factory=Ledger)
    applied: list[AppliedRule] = field(default_factory=list)
    passed: dict[str, Any] = field(default_factory=dict)
    adopted: dict[str, str] = field(default_factory=dict)
    zeros: Zeros = field(default_factory=Zeros)

    def layer_of(self, op: str) -> str:
        """The layer of an operation; one that belongs to none counts to the layer that reads from it."""
        return self.view.layer_of(op) or self.adopted.get(op, op)


class Node:
    """One operation, with the relevance of what it makes.

    Args:
        op: the operation.
        walking: the walk.
        relevance: of each of its outputs; None where nothing came.

    Attributes:
        op: the operation.
        view: the graph.
        options: what the request fixes.
        replicas: the targets.
        layer: the layer that it belongs to.
        walking: the walk.
    """

    def __init__(self, op: Any, walking: Walking, relevance: Sequence[Any]) -> None:
        self.op = op
        self.view = walking.view
        self.options = walking.options
        self.replicas = walking.replicas
        self.layer = walking.layer_of(op.name)
        self.walking = walking
        self._relevance = list(relevance)

    @property
    def relevance(self) -> Any:
        """The relevance of the first output; zeros if nothing came."""
        return self.relevance_of(0)

    def relevance_of(self, output: int) -> Any:
        """The relevance of an output; zeros if nothing came."""
        import tensorflow as tf

        if self._relevance[output] is None:
            made = self.op.outputs[output]
            where = self.where(made)
            self._relevance[output] = self.replicas.repeated(tf.zeros_like(wide(made)), where)
        return self._relevance[output]

    def came(self, output: int) -> bool:
        """Whether any relevance came to an output."""
        return self._relevance[output] is not None

    def where(self, tensor: Any) -> BatchAxis:
        """The place of the instances in a tensor.

        Raises:
            UnsupportedOp: it is not known.
        """
        found = self.view.batch_axis(tensor)
        if found is None:
            raise self.refusal(f"the instances can not be told apart in its tensor {tensor.name!r}")
        return found

    def meet(
        self, compute: Callable[..., Any], where: BatchAxis, relevance: Sequence[Any], forward: Sequence[Any]
    ) -> Any:
        """See `Replicas.meet`."""
        return self.replicas.meet(compute, where, relevance, forward)

    def book(self, column: str, amount: Any, where: BatchAxis) -> None:
        """Books relevance in the ledger of this operation's layer.

        Args:
            column: one of `ledger.COLUMNS`.
            amount: a tensor in the form of relevance.
            where: the place of the instances in it.
        """
        self.book_total(column, self.replicas.total(amount, where))

    def book_total(self, column: str, total: Any, times: float = 1.0) -> None:
        """Books (targets, instances) float64, a number of times."""
        self.walking.ledger.book(self.layer, column, total, times)

    def apply(self, rule: Rule | str, fallback: bool = False) -> None:
        """Notes which rule this operation had."""
        self.walking.applied.append(AppliedRule(self.layer, self.op.name, self.op.type, str(rule), fallback))

    def keep(self, tensor: Any, relevance: Any) -> None:
        """Notes the relevance of a tensor that relevance passes within this operation's entry."""
        self.walking.passed[tensor.name] = relevance

    def rule(self) -> Rule | None:
        """The rule that the request gives this operation."""
        return self.options.rule_of(self.op.name)

    def refusal(self, reason: str) -> UnsupportedOp:
        """The error that says why this operation is not covered."""
        return UnsupportedOp([OpProblem(self.op.name, self.op.type, "", 0, reason)])


def wide(tensor: Any) -> Any:
    """A floating-point tensor in the type that its relevance is computed in: float64 as it is, all else float32."""
    import tensorflow as tf

    return tensor if tensor.dtype in (tf.float32, tf.float64) else tf.cast(tensor, tf.float32)


def late(value: Any, relevance: Any) -> Any:
    """A tensor of the forward pass, for what is computed from it once relevance has come, and not before.

    TensorFlow computes what it can as soon as it can: what the way back adds to the forward pass would all be computed
    with that, and be kept until relevance comes, out of the cache by then.
    """
    import tensorflow as tf

    with tf.control_dependencies([relevance]):
        return tf.identity(value)
