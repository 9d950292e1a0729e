"""What a caller may ask of the linearity measure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from sidelight_engines.runtime.runtime import Array


class Aggregation(Enum):
    """How samples are combined."""

    GLOBAL = "global"
    """One superposition of all samples: ||sum_s a_s M(v_s) - M(sum_s a_s v_s)||."""
    PAIRWISE = "pairwise"
    """The mean over samples of ||a_1 M(x) + a_2 M(v_s) - M(a_1 x + a_2 v_s)||."""


class ModelType(Enum):
    """Whether the output of a model holds probabilities."""

    BY_GRAPH = "by_graph"
    """A classifier if the output comes from a softmax or sigmoid."""
    CLASSIFIER = "classifier"
    REGRESSOR = "regressor"


class ClassifierScale(Enum):
    """The scale on which the output of a classifier is measured."""

    LOG_PROBABILITY = "log_probability"
    """log(p + probability_floor)."""
    EXACT_LOG_PROBABILITY = "exact_log_probability"
    """The log-probability from the logits that the softmax or sigmoid reads."""


class DrawGenerator(Enum):
    """What makes random draws."""

    COUNTER = "counter"
    """Philox 4x64-10, keyed by seed and instance."""
    MERSENNE_TWISTER = "mersenne_twister"
    """NumPy's legacy MT19937 stream, in the order in which alibi 0.9.4 draws."""


@dataclass(frozen=True)
class Rows:
    """Rows of data and where the caller gave them.

    Attributes:
        values: shaped like the instances; axis 0 counts the rows. May be memory-mapped.
        field: the path of the request field that they came from, for errors.
    """

    values: Array
    field: str


@dataclass(frozen=True)
class UniformRange:
    """One range for all features: finite, `maximum` above `minimum`."""

    minimum: float
    maximum: float


@dataclass(frozen=True)
class PerFeatureRange:
    """A range per feature: finite, in the shape of one instance, `maximum` nowhere below `minimum`."""

    minimum: Array
    maximum: Array


@dataclass(frozen=True)
class DataRange:
    """The least and greatest value of each feature in some data, at least one row."""

    data: Rows


FeatureRange = UniformRange | PerFeatureRange | DataRange


@dataclass(frozen=True)
class GridSampling:
    """Samples on a grid: x_f + sign * r * (max_f - min_f) / resolution.

    Attributes:
        feature_range: the range of each feature.
        epsilon: the half-width of the neighbourhood as a share of the range; above 0, at most 1.
        resolution: grid steps in the range; 2 to 1,000,000.
        clip: keeps samples within the range.
    """

    feature_range: FeatureRange
    epsilon: float = 0.04
    resolution: int = 100
    clip: bool = False

    @property
    def steps(self) -> int:
        """The most grid steps, m, that a sample goes from the instance, up or down."""
        return max(2, round(self.epsilon * self.resolution))


@dataclass(frozen=True)
class KnnSampling:
    """Samples that are the nearest rows of some data by Euclidean distance.

    Attributes:
        data: at least as many rows as there are samples, shaped like the instances.
    """

    data: Rows


@dataclass(frozen=True)
class LayerSelection:
    """The layers to measure beside the output.

    Attributes:
        names: in the order wanted; a repeated name counts once. Empty if `everything` is set.
        everything: every layer of the graph.
    """

    names: tuple[str, ...] = ()
    everything: bool = False


@dataclass(frozen=True)
class RandomDraws:
    """The random draws of a request.

    Attributes:
        seed: 0 to 2^64 - 1; for MERSENNE_TWISTER to 2^32 - 1.
        generator: what makes the draws.
        first_instance: the position of the first instance in a longer list.
        total_instances: MERSENNE_TWISTER: the length of the longer list; 0 is the instances given.
        word_offset: MERSENNE_TWISTER: how many 32-bit words of the stream earlier calls have used.
    """

    seed: int = 0
    generator: DrawGenerator = DrawGenerator.COUNTER
    first_instance: int = 0
    total_instances: int = 0
    word_offset: int = 0


@dataclass(frozen=True)
class LinearityParameters:
    """How to measure linearity.

    Attributes:
        sampling: how samples are drawn around an instance.
        samples: samples per instance, 2 to 10,000; for nearest neighbours, the number of neighbours.
        aggregation: how samples are combined.
        coefficients: the a_s, finite. GLOBAL: one per sample; empty is 1/samples each. PAIRWISE: two, for
            the instance and for a sample; empty is 0.5 and 0.5.
        layers: the layers to measure beside the output.
        output: the name of the output to measure; empty is the model's first.
        model_type: whether the output holds probabilities.
        classifier_scale: what is measured of a classifier.
        probability_floor: what LOG_PROBABILITY adds to a probability before its logarithm; at least 0.
        draws: the random draws.
        confidence_level: adds a confidence interval of this level, above 0 and below 1; None for none.
    """

    sampling: GridSampling | KnnSampling
    samples: int = 20
    aggregation: Aggregation = Aggregation.GLOBAL
    coefficients: tuple[float, ...] = ()
    layers: LayerSelection = field(default_factory=LayerSelection)
    output: str = ""
    model_type: ModelType = ModelType.BY_GRAPH
    classifier_scale: ClassifierScale = ClassifierScale.LOG_PROBABILITY
    probability_floor: float = 1e-10
    draws: RandomDraws = field(default_factory=RandomDraws)
    confidence_level: float | None = None


@dataclass(frozen=True)
class Chunking:
    """How the work is cut into forward passes.

    Attributes:
        rows: the most rows per forward pass; None is 64 for ONNX Runtime and 256 for TensorFlow. Measured on a
            network of two convolutions over 28 x 28 pixels, with 32 to 1,024 rows: ONNX Runtime is fastest with
            32 to 64, whose activations stay in the cache, and takes up to two thirds longer with more;
            TensorFlow, which has more to do per pass, gains up to 256.
        memory_bytes: the most that inputs, tapped tensors and their reductions may take at a time. What the
            runtime needs within itself comes on top.
    """

    rows: int | None = None
    memory_bytes: int = 256 * 2**20
