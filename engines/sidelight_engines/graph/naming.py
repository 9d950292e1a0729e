"""Gives nodes back to the layers that a model's author wrote.

Frameworks write the author's layers into node names as scopes, and decorate them:

    StatefulPartitionedCall/functional_1/conv_1_1/BiasAdd      Keras 3, frozen: the layer conv_1
    functional_1/conv_1_1/BiasAdd                              the same by way of tf2onnx
    StatefulPartitionedCall/model/drop_1/Identity              Keras 2: the layer drop_1
    /layers/layers.0/Conv                                      PyTorch: the module layers.0

Calls are taken away, then the model's own scope, the root; what is left of the scopes down to
the author's innermost layer is the layer's name. Keras 3 appends one same number to every scope
of a trace (``_1`` above); it is found by the names of the variables, which do not have it, or else
by its being everywhere.
"""

from __future__ import annotations

import re
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
        key: what the nodes of one layer have in common.
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
    paths = {node: _scopes_of(node) for node in nodes}
    known = {tuple(scope.split("/")) for scope in scopes if scope}
    root = _root(paths.values())
    number = _number(paths.values(), root, known, constants)
    layers = {
        path: _layer_path(path, root, number, matched) for path, matched in _matches(paths, number, known).items()
    }
    return _unique({node: _place(node, layers[path], root, number) for node, path in paths.items()})


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
    parts = [part for part in parts if part and not _CALL.fullmatch(part)]
    inner = next((i for i, part in enumerate(parts) if _INTERNAL.fullmatch(part)), len(parts))
    return tuple(parts[:inner])


def _root(paths: Iterable[_Path]) -> _Path:
    scoped = {path for path in paths if path}
    first = {path[0] for path in scoped}
    return (first.pop(),) if len(first) == 1 and any(len(path) > 1 for path in scoped) else ()


def _number(paths: Iterable[_Path], root: _Path, known: Collection[_Path], constants: Iterable[str]) -> str:
    """The number that the framework put behind every scope (``_1``); empty if it did not."""
    every = {path for path in paths if path}
    outer = [*root, *dict.fromkeys(path[len(root)] for path in sorted(every) if len(path) > len(root))]
    numbers = {found.group() for part in outer if (found := _NUMBER.search(part))}
    if known:
        found_by = {number: _count_found(every, number, known) for number in ("", *sorted(numbers))}
        best = max(found_by, key=lambda number: found_by[number])
        if found_by[best] > 0:
            return best if _reversible(every, best) else ""
    uniform = len(numbers) == 1 and bool(root) and all(_NUMBER.search(part) for part in outer)
    if not uniform or any(_KERAS_2_READS.search(constant) for constant in constants):
        return ""
    number = numbers.pop()
    return number if _reversible(every, number) else ""


def _count_found(paths: Collection[_Path], number: str, known: Collection[_Path]) -> int:
    stripped = [_strip(path, number) for path in paths]
    return sum(any(_end_of(scope, path) for path in stripped) for scope in known)


def _strip(path: _Path, number: str) -> _Path:
    return tuple(part.removesuffix(number) or part for part in path)


def _reversible(paths: Collection[_Path], number: str) -> bool:
    prefixes = {path[:end] for path in paths for end in range(1, len(path) + 1)}
    return len({_strip(prefix, number) for prefix in prefixes}) == len(prefixes)


def _end_of(scope: _Path, path: _Path) -> int:
    """The position behind the last place where `path` holds `scope`; 0 if it does not."""
    for end in range(len(path), len(scope) - 1, -1):
        if path[end - len(scope) : end] == scope:
            return end
    return 0


def _matches(paths: Mapping[str, _Path], number: str, known: Collection[_Path]) -> dict[_Path, tuple[int, int]]:
    """For each path: how long a known layer reaches, and how long a scope that holds known layers."""
    every = dict.fromkeys(paths.values())
    ends = {path: max((_end_of(scope, _strip(path, number)) for scope in known), default=0) for path in every}
    holders = {path[:end] for path, reach in ends.items() for end in range(1, reach)}
    return {
        path: (reach, max((end for end in range(1, len(path) + 1) if path[:end] in holders), default=0))
        for path, reach in ends.items()
    }


def _layer_path(path: _Path, root: _Path, number: str, matched: tuple[int, int]) -> _Path:
    """The scopes of a node down to the author's innermost layer."""
    reach, holder = matched
    outer = len(root)
    if number:
        # Below the outermost layers, a scope that was not numbered is the framework's own.
        inner = (end for end in range(outer + 1, len(path)) if not path[end].endswith(number))
        return path[: next(inner, len(path))]
    if reach > max(outer, holder):
        return path[:reach]
    return path[: holder + 1] if holder else path


def _place(node: str, path: _Path, root: _Path, number: str) -> Place:
    if not path or path == root:
        parts = [part for part in node.split("/") if part and not _CALL.fullmatch(part)]
        return Place(("", node), "/".join(parts[len(path) :]) or node, scoped=False)
    return Place(path, "/".join(_strip(path[len(root) :], number)), scoped=True)


def _unique(places: Mapping[str, Place]) -> dict[str, Place]:
    """Renames what would share a name with another layer: to its full path, then to a numbered one."""
    owners: dict[str, _Path] = {}
    names: dict[_Path, str] = {}
    # The author's own scopes have the first claim to their names.
    for place in sorted(places.values(), key=lambda place: not place.scoped):
        if place.key in names:
            continue
        name, full, count = place.name, "/".join(part for part in place.key if part), 2
        while owners.setdefault(name, place.key) != place.key:
            name, count = (full, count) if full not in owners else (f"{full}_{count}", count + 1)
        names[place.key] = name
    return {node: Place(place.key, names[place.key], place.scoped) for node, place in places.items()}
