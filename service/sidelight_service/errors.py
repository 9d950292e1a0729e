"""Errors that arise in the server rather than in an engine."""

from __future__ import annotations

from sidelight_engines.errors import SidelightError


class ModelNotFound(SidelightError):
    """No model of that name is in the repository."""

    def __init__(self, model: str, known: tuple[str, ...]) -> None:
        listed = ", ".join(known[:10]) or "none"
        super().__init__(f"no model {model!r} in the repository; there are: {listed}")
        self.model = model


class VersionNotFound(SidelightError):
    """The model has no such version or label."""

    def __init__(self, model: str, version: str, known: str) -> None:
        super().__init__(f"model {model!r} has no {version}; it has: {known}")
        self.model = model
        self.version = version


class ModelNotLoaded(SidelightError):
    """The model is in the repository and does not serve."""

    def __init__(self, model: str, version: int, state: str, detail: str) -> None:
        super().__init__(f"model {model!r} version {version} is {state.lower()}: {detail}")
        self.model = model
        self.version = version
        self.state = state


class ModelChanged(SidelightError):
    """The files of a version are not those that the caller means."""

    def __init__(self, model: str, version: int, digest: str) -> None:
        super().__init__(
            f"model {model!r} version {version} now has digest {digest}; describe it anew, or ask without a digest"
        )
        self.model = model
        self.version = version
        self.digest = digest


class NotAvailable(SidelightError):
    """This server does not have what is asked for: a method of a newer contract, or an optional part."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} is not available in this server; {remedy}")
        self.what = what


class MessageTooLarge(SidelightError):
    """A message exceeds the limit."""

    def __init__(self, direction: str, size_bytes: int, limit_bytes: int, remedy: str) -> None:
        super().__init__(
            f"the {direction} has {size_bytes} bytes, more than the limit of {limit_bytes} bytes "
            f"({limit_bytes // (1024 * 1024)} MiB); {remedy}"
        )
        self.limit_bytes = limit_bytes


class MalformedMessage(SidelightError):
    """The bytes of a request are not the message that the method takes."""


class QueueFull(SidelightError):
    """Too many requests wait already."""

    def __init__(self, method: str, limit: int) -> None:
        super().__init__(f"{limit} {method} requests wait already; retry later, or start the server with more workers")
        self.limit = limit


class WorkerLost(SidelightError):
    """The compute worker died during the call, or is not up."""


class ShuttingDown(SidelightError):
    """The server takes no new calls."""


class CallTimedOut(SidelightError):
    """The call's deadline, or the server's own limit on calls, has passed."""


class CallCancelled(SidelightError):
    """The caller cancelled."""


class NotAllowed(SidelightError):
    """The server's settings do not allow it."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


class JobNotFound(SidelightError):
    """No job of that id is kept."""

    def __init__(self, job: str) -> None:
        super().__init__(f"no job {job!r}; it was deleted, its time was up, or it never was; ListJobs lists them")
        self.job = job


class WrongJobState(SidelightError):
    """The job is not in a state that allows this."""

    def __init__(self, job: str, state: str, detail: str) -> None:
        super().__init__(f"job {job!r} is {state.lower()}: {detail}")
        self.job = job
        self.state = state


class ReferenceNotFound(SidelightError):
    """There is no reference set of that name, or it can not be read."""

    def __init__(self, reference: str, message: str) -> None:
        super().__init__(message)
        self.reference = reference


class ReferenceExists(SidelightError):
    """A reference set of that name exists."""

    def __init__(self, reference: str, digest: str) -> None:
        super().__init__(
            f"reference set {reference!r} exists, with digest {digest}; sets are never overwritten: take another "
            "name, or delete it first"
        )
        self.reference = reference
        self.digest = digest


class ReferenceInUse(SidelightError):
    """Something still uses the reference set."""

    def __init__(self, reference: str, user: str) -> None:
        super().__init__(f"reference set {reference!r} is used by {user}; try again when that is done or deleted")
        self.reference = reference


class IndexMissing(SidelightError):
    """References are too many to be compared without an index, and there is none."""

    def __init__(self, model: str, version: int, reference: str, needed_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"the gradients of these examples of reference set {reference!r} take {needed_bytes} bytes, where a "
            f"request computes up to {limit_bytes}, and no gradient index of the set fits version {version} of model "
            f"{model!r} with this loss and output; create a BuildGradientIndex job for the set "
            f"(sidelight index build --model {model}:{version} --reference {reference}), or select fewer examples"
        )
        self.model = model
        self.version = version
        self.reference = reference
        self.needed_bytes = needed_bytes
        self.limit_bytes = limit_bytes


class UploadIncomplete(SidelightError):
    """An upload ended before what it announced had arrived."""


class StorageFull(SidelightError):
    """The data directory has no space."""

    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(
            f"the data directory has {free_bytes} bytes free where {needed_bytes} are needed; delete what is no longer "
            "used, or give it more space"
        )
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes
