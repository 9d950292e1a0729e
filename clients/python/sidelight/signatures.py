"""Signatures that show options which are passed on as a whole."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

_Function = TypeVar("_Function", bound=Callable[..., Any])


def shows(options: type) -> Callable[[_Function], _Function]:
    """Puts the keys of a typed dictionary in the place of ``**options`` in a signature, for help() and editors.

    Args:
        options: the dictionary; each of its keys may be left out or None.
    """

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
            for name, hint in get_type_hints(options).items()
        ]
        vars(function)["__signature__"] = signature.replace(parameters=kept + more)
        return function

    return decorate
