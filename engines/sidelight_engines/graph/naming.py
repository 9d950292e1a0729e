"""Gives nodes back to the layers that a model's author wrote.

Frameworks write the author's layers into node names as scopes, and decorate them:

    StatefulPartitionedCall/functional_1/conv_1_1/BiasAdd      Keras 3, frozen: the layer conv_1
    functional_1/conv_1_1/BiasAdd                              the same by way of tf2onnx
    StatefulPartitionedCall/model/drop_1/Identity              Keras 2: the layer drop_1
    /layers/layers.0/Conv                                      PyTorch: the module layers.0

Calls are taken away, then the model's own scope, the root; what is left of the scopes down to
the author's innermost layer is the layer's name. Keras 3 opens every scope of a trace twice, so
TensorFlow makes the name unique by a number: ``conv_1`` becomes ``conv_1_1``, and after
``conv2d`` has become ``conv2d_1``, an author's ``conv2d_1`` becomes ``conv2d_1_2``. Whether a graph is numbered
so is told by the names of the variables, which never are; without them, by the numbers' being on
every scope.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

_Path = tuple[str, ...]

_CALL = re.compile(r"(Stateful)?PartitionedCall(_\d+)?")
_NUMBER = re.compile(r"_\d+$")

# Scopes that frameworks open inside a layer.
_INTERNAL = re.compile(
    r"(batchnorm|convolution|depthwise|einsum|moments|normalize_moments|separable_conv2d|strided_slice|zeros|ones"
    r"|BiasAdd|Cast|Conv1D|Conv2D|Conv3D|MatMul|Mean|Reshape|Sum|Tensordot|TensorArray[A-Za-z0-9]*"
    r"|l2_normalize|assert_\w+|cond|while)(_\d+)?"
)

# Keras 2 reads its kernels by these names; it numbers no scopes of its own accord.
_KERAS_2_READS = re.compile(r"/(Conv2D|Conv1D|Conv3D|MatMul|Tensordot|depthwise)/ReadVariableOp(:0)?$")


@dataclass(frozen=True)
class Place:
    """Where a node stands among the author's layers.

    Attributes:
        key: what the nodes of one layer have in common; a prefix of the keys of layers inside it.
        name: the layer's name.
        scoped: whether the author's scopes say so; if not, the node stands for itself.
    """

    key: _Path
    name: str
    scoped: bool


def place_nodes(nodes: Sequence[str], constants: Iterable[str], scopes: Collection[str]) -> dict[str, Place]:
    """Finds the layer of each node.

    Args:
        nodes: names of the nodes that carry values from input to output; unique.
        constants: names of the tensors they read that are constants.
        scopes: the author's layers as the variables' names tell them (``conv_1``, ``block1/conv``); may
            be empty.

    Returns:
        Node name -> its place. Names of layers are unique.
    """
    dotted = sum(node.startswith("/") for node in nodes) * 2 > len(nodes)
    if dotted:
        return _unique({node: _module(node) for node in nodes})
    known = {tuple(scope.split("/")) for scope in scopes if scope}
    authored = {part for scope in known for part in scope}
    written = {node: _scopes_of(node) for node in nodes}
    root = _root(_without_internals(path, 1, authored) for path in written.values())
    paths = {node: _without_internals(path, len(root) + 1, authored) for node, path in written.items()}
    numbered = _is_numbered(set(paths.values()), root, known, constants)
    layers = {
        path: _layer_path(path, root, numbered, reach, holder)
        for path, (reach, holder) in _matches(paths.values(), numbered, known).items()
    }
    return _unique({node: _place(node, layers[path], root, numbered) for node, path in paths.items()})


def _module(node: str) -> Place:
    """PyTorch's: each scope is a module, and one in a list repeats the name of the list."""
    *scopes, leaf = [part for part in node.split("/") if part]
    path: list[str] = []
    for scope in scopes:
        if path and scope.startswith(f"{path[-1]}."):
            path.pop()
        path.append(scope)
    if not path:
        return Place(("", node), leaf, scoped=False)
    return Place(tuple(path), ".".join(path), scoped=True)


def _scopes_of(node: str) -> _Path:
    parts = node.split("/")[:-1]
    if parts and parts[0] == "Func":
        return ()
    return tuple(part for part in parts if part and not _CALL.fullmatch(part))


def _without_internals(path: _Path, start: int, authored: Collection[str]) -> _Path:
    """Cuts a path before the first scope, from `start` on, that a framework opens and no author named so."""
    for end in range(start, len(path)):
        part = path[end]
        if _INTERNAL.fullmatch(part) and part not in authored and _bare(part) not in authored:
            return path[:end]
    return path


def _root(paths: Iterable[_Path]) -> _Path:
    scoped = {path for path in paths if path}
    first = {path[0] for path in scoped}
    return (first.pop(),) if len(first) == 1 and any(len(path) > 1 for path in scoped) else ()


def _is_numbered(paths: Collection[_Path], root: _Path, known: Collection[_Path], constants: Iterable[str]) -> bool:
    """Whether the framework put a number behind every scope."""
    if known:
        plain, stripped = _count_found(paths, known), _count_found({_strip(path, True) for path in paths}, known)
        if plain or stripped:
            return stripped > plain
    outer = {path[len(root)] for path in paths if len(path) > len(root)}
    number = _NUMBER.search(root[0]) if root else None
    if number is None or not all(_NUMBER.search(scope) for scope in outer):
        return False
    bare = Counter(_bare(scope) for scope in outer)
    for scope in outer:
        # Another number stands where the usual one was taken.
        taken = _bare(scope) in outer or bare[_bare(scope)] > 1
        if not scope.endswith(number.group()) and not taken:
            return False
    return not any(_KERAS_2_READS.search(constant) for constant in constants)


def _count_found(paths: Collection[_Path], known: Collection[_Path]) -> int:
    return sum(any(_end_of(scope, path) for path in paths) for scope in known)


def _bare(scope: str) -> str:
    return _NUMBER.sub("", scope) or scope


def _strip(path: _Path, numbered: bool) -> _Path:
    return tuple(map(_bare, path)) if numbered else path


def _end_of(scope: _Path, path: _Path) -> int:
    """The position behind the last place where `path` holds `scope`; 0 if it does not."""
    for end in range(len(path), len(scope) - 1, -1):
        if path[end - len(scope) : end] == scope:
            return end
    return 0


def _matches(paths: Iterable[_Path], numbered: bool, known: Collection[_Path]) -> dict[_Path, tuple[int, int]]:
    """For each path: how long a known layer reaches, and how long a scope that holds known layers."""
    every = dict.fromkeys(paths)
    ends = {path: max((_end_of(scope, _strip(path, numbered)) for scope in known), default=0) for path in every}
    holders = {path[:end] for path, reach in ends.items() for end in range(1, reach)}
    return {
        path: (reach, max((end for end in range(1, len(path) + 1) if path[:end] in holders), default=0))
        for path, reach in ends.items()
    }


def _layer_path(path: _Path, root: _Path, numbered: bool, reach: int, holder: int) -> _Path:
    """The scopes of a node down to the author's innermost layer."""
    outer = len(root)
    if numbered:
        # Below the outermost layers, a scope that was not numbered is the framework's own.
        inner = (end for end in range(outer + 1, len(path)) if not _NUMBER.search(path[end]))
        return path[: next(inner, len(path))]
    if reach > max(outer, holder):
        return path[:reach]
    return path[: holder + 1] if holder else path


def _place(node: str, path: _Path, root: _Path, numbered: bool) -> Place:
    if not path or path == root:
        parts = [part for part in node.split("/") if part and not _CALL.fullmatch(part)]
        return Place(("", node), "/".join(parts[len(path) :]) or node, scoped=False)
    return Place(path, "/".join(_strip(path[len(root) :], numbered)), scoped=True)


def _unique(places: Mapping[str, Place]) -> dict[str, Place]:
    """Renames what would share a name with another layer: to what the file calls it, or by a number."""
    owners: dict[str, _Path] = {}
    names: dict[_Path, str] = {}
    # The author's own scopes have the first claim to their names.
    for place in sorted(places.values(), key=lambda place: not place.scoped):
        if place.key in names:
            continue
        key = tuple(part for part in place.key if part)
        written = ("/".join(key[1:]), "/".join(key)) if len(key) > 1 else key
        counted = (f"{'/'.join(key)}_{count}" for count in itertools.count(2))
        candidates = itertools.chain((place.name,), written, counted)
        names[place.key] = next(name for name in candidates if owners.setdefault(name, place.key) == place.key)
    return {node: Place(place.key, names[place.key], place.scoped) for node, place in places.items()}
