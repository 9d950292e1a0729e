"""How a channel to a server is set up: address, message limits, retries."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sidelight.errors import InvalidArgument

DEFAULT_MAX_MESSAGE_BYTES = 64 * 1024 * 1024

# Only UNAVAILABLE is tried again: it says that the call was not carried out, or may be repeated
# without harm, which every call of the contract may. gRPC does the waiting, and obeys the server
# where that says how long.
_RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.2s",
    "maxBackoff": "3s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}

Option = tuple[str, str | int]


def channel_options(max_message_bytes: int, more: Sequence[Option] = ()) -> list[Option]:
    """The options of a channel.

    Args:
        max_message_bytes: the largest message to send or take, in bytes.
        more: options that go before these and so win over them.

    Returns:
        Name and value of each option.
    """
    if max_message_bytes < 1:
        raise InvalidArgument(f"max_message_bytes is {max_message_bytes}; give at least 1")
    service_config = {"methodConfig": [{"name": [{}], "retryPolicy": _RETRY_POLICY}]}
    own: list[Option] = [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        # gRPC retries only what it still has; its own default forgets requests above 256 KiB.
        ("grpc.per_rpc_retry_buffer_size", max_message_bytes + 64 * 1024),
        ("grpc.service_config", json.dumps(service_config)),
    ]
    given = {name for name, _ in more}
    return [*more, *(option for option in own if option[0] not in given)]
