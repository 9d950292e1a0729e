"""What a report is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sidelight import Client, Layer, ModelDetail, ReferenceSelection, ReferenceSet

_MOST_CLASSES = 20


@dataclass(frozen=True)
class ReportRequest:
    """What to report on, and how much.

    Attributes:
        model: ``name``, ``name:version`` or ``name@label``.
        reference: the name of a reference set of the server.
        x: instances to explain, in place of some of the reference set; by input name for several inputs.
        instances: how many to show one by one, in relevance and similarity.
        sample: how many examples to measure linearity around, over all classes together.
        examples: the most examples that patterns and influence are measured over; a seeded sample of the set if it
            has more.
        layers: at which activation patterns are measured; chosen by their operations if empty.
        seed: of every random draw.
        timeout: in seconds, for each call.
    """

    model: str
    reference: str
    x: NDArray[Any] | Mapping[str, NDArray[Any]] | None = None
    instances: int = 6
    sample: int = 100
    examples: int = 10_000
    layers: tuple[str, ...] = ()
    seed: int = 0
    timeout: float | None = None


@dataclass(frozen=True)
class Subject:
    """What the sections of a report are made from.

    Attributes:
        client: of the server.
        request: what was asked for.
        detail: the model.
        reference: the reference set.
    """

    client: Client
    request: ReportRequest
    detail: ModelDetail
    reference: ReferenceSet

    @property
    def model(self) -> str:
        """The version that every section explains, whatever is loaded meanwhile."""
        return f"{self.detail.name}:{self.detail.version}"

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes of the reference set with most examples, ascending; empty without class labels."""
        counts = self.reference.class_counts
        most = sorted(counts, key=lambda name: (-counts[name], name))[:_MOST_CLASSES]
        return tuple(sorted(most))

    @property
    def shown_inputs(self) -> Any:
        """The instances that are shown one by one: those given, or a seeded sample of the reference set."""
        count = self.request.instances
        if self.request.x is None:
            return self.selection(sample=min(count, self.reference.count))
        if isinstance(self.request.x, Mapping):
            return {name: array[:count] for name, array in self.request.x.items()}
        return self.request.x[:count]

    @property
    def told_inputs(self) -> str:
        """Where the instances that are shown one by one come from, in words."""
        if self.request.x is None:
            return f"drawn from {self.reference.name} with seed {self.request.seed}"
        return "the first of the input given"

    def selection(
        self, *, classes: tuple[int, ...] = (), sample: int | None = None, seeded: bool = True
    ) -> ReferenceSelection:
        """Examples of the reference set, as it was when the report began."""
        import sidelight

        return sidelight.ReferenceSelection(
            self.reference.name,
            digest=self.reference.digest,
            classes=classes,
            sample=sample,
            sample_seed=self.request.seed if seeded and sample is not None else None,
        )

    def all_examples(self) -> ReferenceSelection:
        """All examples, or a seeded sample of as many as the request allows."""
        most = self.request.examples
        return self.selection(sample=most if self.reference.count > most else None)

    @property
    def told_examples(self) -> str:
        """What `all_examples` are, in words."""
        count, most = self.reference.count, self.request.examples
        if count > most:
            return f"{most:,} of the {count:,} examples of {self.reference.name}, drawn with seed {self.request.seed}"
        return f"all {count:,} examples of {self.reference.name}"

    def output_layer(self) -> Layer | None:
        """The layer that makes the explained output."""
        return next((layer for layer in self.detail.layers if layer.is_output), None)
