"""Models of a repository: found, loaded, refused, replaced, drained."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import onnx
import pytest
from serving import CLASSES, FEATURES, Start, dense_network, linearity_request, put_model, refusal
from sidelight.v1 import model_pb2, model_service_pb2, tensor_pb2
from sidelight_service.settings import ModelMode

_AVAILABLE = model_pb2.MODEL_VERSION_STATE_AVAILABLE


def _selector(name: str, version: int | None = None, label: str | None = None) -> model_pb2.ModelSelector:
    selector = model_pb2.ModelSelector(name=name)
    if version is not None:
        selector.version = version
    if label is not None:
        selector.label = label
    return selector


def _get(name: str, version: int | None = None) -> model_service_pb2.GetModelRequest:
    return model_service_pb2.GetModelRequest(model=_selector(name, version))


def _load(name: str, version: int | None = None, **more: bool) -> model_service_pb2.LoadModelRequest:
    return model_service_pb2.LoadModelRequest(model=_selector(name, version), **more)


def _unload(name: str, version: int | None = None) -> model_service_pb2.UnloadModelRequest:
    return model_service_pb2.UnloadModelRequest(model=_selector(name, version))


async def _states(server: object) -> dict[str, dict[int, int]]:
    listed = await server.models.ListModels(model_service_pb2.ListModelsRequest())  # type: ignore[attr-defined]
    return {model.name: {v.version: v.state for v in model.versions} for model in listed.models}


async def test_a_model_is_described_by_its_inputs_outputs_layers_and_methods(start: Start) -> None:
    server = await start("small")

    model = (await server.models.GetModel(_get("small"))).model

    assert (model.name, model.version, model.status.state) == ("small", 1, _AVAILABLE)
    (x,) = model.inputs
    assert (x.name, x.data_type, list(x.shape)) == ("x", tensor_pb2.DATA_TYPE_FLOAT32, [-1, FEATURES])
    assert [(o.name, list(o.shape)) for o in model.outputs] == [("probabilities", [-1, CLASSES])]
    assert [layer.name for layer in model.layers] == ["dense_1", "relu_1", "dense_2", "softmax"]
    assert [layer.parameter_count for layer in model.layers] == [56, 0, 27, 0]
    assert [layer.affine for layer in model.layers] == [True, False, False, False]
    assert [layer.output for layer in model.layers] == [False, False, False, True]
    assert model.parameter_count == 83
    assert model.classifier
    support = {s.method: s for s in model.methods}
    assert support[model_pb2.METHOD_LINEARITY].supported
    assert support[model_pb2.METHOD_LRP].supported
    assert all(layer.lrp_supported for layer in model.layers)
    assert model.gradient_check.state == model_pb2.GradientCheck.STATE_PENDING


async def test_an_operation_that_is_not_covered_is_named_and_the_rest_still_works(
    start: Start, repository: Path
) -> None:
    model = dense_network([FEATURES, 8, CLASSES])
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "RandomNormalLike"
    put_model(repository, "odd", 1, model)
    server = await start("odd")

    detail = (await server.models.GetModel(_get("odd"))).model
    lrp = next(s for s in detail.methods if s.method == model_pb2.METHOD_LRP)
    refused = await refusal(
        server.explain.ExplainLinearity(linearity_request("odd", runtime=model_pb2.RUNTIME_TENSORFLOW))
    )
    explained = await server.explain.ExplainLinearity(linearity_request("odd"))

    assert [(op.node, op.op, op.opset) for op in lrp.unsupported_ops] == [("relu_1", "RandomNormalLike", 17)]
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "OP_NOT_SUPPORTED")
    assert (refused.metadata["node"], refused.metadata["op"], refused.metadata["opset"]) == (
        "relu_1",
        "RandomNormalLike",
        "17",
    )
    assert explained.instance_count == 4


async def test_the_gradient_check_can_be_made_when_a_model_is_loaded(start: Start) -> None:
    server = await start("small")

    loaded = await server.models.LoadModel(_load("small", check_gradients=True))

    assert loaded.model.gradient_check.state == model_pb2.GradientCheck.STATE_PASSED
    assert loaded.model.gradient_check.probe_rows > 0


async def test_by_default_the_latest_version_serves(
    start: Start, repository: Path, small_model: onnx.ModelProto
) -> None:
    put_model(repository, "small", 3, dense_network([FEATURES, 4, CLASSES]))
    server = await start("small")

    assert (await server.models.GetModel(_get("small"))).model.version == 3
    refused = await refusal(server.models.GetModel(_get("small", 1)))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_NOT_LOADED")


@pytest.mark.parametrize(
    ("policy", "expected"), [("all", [1, 2, 3]), ("latest:2", [2, 3]), ("specific:1,3", [1, 3]), ("latest", [3])]
)
async def test_the_version_policy_decides_which_versions_serve(
    start: Start, repository: Path, small_model: onnx.ModelProto, policy: str, expected: list[int]
) -> None:
    for version in (2, 3):
        put_model(repository, "small", version, small_model)
    server = await start("small", version_policy=policy)
    await server.server.catalogue.settled.wait()

    states = await _states(server)

    assert [number for number, state in states["small"].items() if state == _AVAILABLE] == expected


async def test_a_label_points_at_a_version(start: Start, repository: Path, small_model: onnx.ModelProto) -> None:
    put_model(repository, "small", 2, small_model)
    server = await start("small", version_policy="all", version_labels={"small": {"stable": 1}})
    await server.server.catalogue.settled.wait()
    request = linearity_request()
    request.model.label = "stable"

    response = await server.explain.ExplainLinearity(request)

    assert response.provenance.version == 1
    request.model.label = "canary"
    assert (await refusal(server.explain.ExplainLinearity(request))).reason == "VERSION_NOT_FOUND"


async def test_a_broken_version_is_refused_with_the_reason_and_the_old_one_serves(
    start: Start, repository: Path
) -> None:
    server = await start("small")
    (repository / "small" / "2").mkdir()
    (repository / "small" / "2" / "model.onnx").write_bytes(b"this is no protobuf message at all")

    refused = await refusal(server.models.LoadModel(_load("small")))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_INVALID")
    listed = (await server.models.ListModels(model_service_pb2.ListModelsRequest())).models[0]
    assert listed.versions[1].state == model_pb2.MODEL_VERSION_STATE_FAILED
    assert listed.versions[1].error.reason == "MODEL_INVALID"
    assert (await server.explain.ExplainLinearity(linearity_request())).provenance.version == 1


async def test_a_half_copied_version_is_refused_until_it_is_whole(
    start: Start, repository: Path, small_model: onnx.ModelProto
) -> None:
    server = await start("small", settle_seconds=0.3)
    whole = small_model.SerializeToString()
    folder = repository / "small" / "2"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(whole[:100])

    async def copy_on() -> None:
        with (folder / "model.onnx").open("ab") as file:
            for start_ in range(100, len(whole), max(1, len(whole) // 6)):
                file.write(whole[start_ : start_ + max(1, len(whole) // 6)])
                file.flush()
                await asyncio.sleep(0.1)

    copying = asyncio.create_task(copy_on())
    refused = await refusal(server.models.LoadModel(_load("small")))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_FILES_INCOMPLETE")
    assert (await server.explain.ExplainLinearity(linearity_request())).provenance.version == 1

    await copying
    assert (await server.models.LoadModel(_load("small"))).model.version == 2


async def test_a_version_without_its_model_file_is_refused_as_incomplete(start: Start, repository: Path) -> None:
    server = await start("small")
    (repository / "small" / "2").mkdir()

    refused = await refusal(server.models.LoadModel(_load("small")))

    assert refused.reason == "MODEL_FILES_INCOMPLETE"
    assert "model.onnx" in refused.message


async def test_a_saved_model_with_a_missing_shard_is_refused_as_incomplete(start: Start, repository: Path) -> None:
    server = await start("small")
    folder = repository / "saved" / "1"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"x")
    (folder / "variables" / "variables.index").write_bytes(b"x")
    (folder / "variables" / "variables.data-00000-of-00002").write_bytes(b"x")

    refused = await refusal(server.models.LoadModel(_load("saved")))

    assert refused.reason == "MODEL_FILES_INCOMPLETE"
    assert "1 of 2" in refused.message


async def test_no_request_fails_while_a_version_is_replaced(start: Start, repository: Path) -> None:
    server = await start("small")
    served: list[int] = []
    done = asyncio.Event()

    async def keep_asking() -> None:
        while not done.is_set():
            served.append((await server.explain.ExplainLinearity(linearity_request(rows=1))).provenance.version)

    asking = [asyncio.create_task(keep_asking()) for _ in range(3)]
    put_model(repository, "small", 2, dense_network([FEATURES, 5, CLASSES]))
    await server.models.LoadModel(_load("small"))
    await server.explain.ExplainLinearity(linearity_request(rows=1))
    done.set()
    await asyncio.gather(*asking)

    assert set(served) == {1, 2}
    assert served == sorted(served) or served[-1] == 2
    states = await _states(server)
    assert states["small"][2] == _AVAILABLE
    assert states["small"][1] != _AVAILABLE


async def test_new_contents_of_a_version_replace_the_old_ones_on_load(start: Start, repository: Path) -> None:
    server = await start("small")
    before = (await server.models.GetModel(_get("small"))).model.status.digest
    put_model(repository, "small", 1, dense_network([FEATURES, 5, CLASSES], seed=5))

    after = (await server.models.LoadModel(_load("small"))).model

    assert after.status.digest != before
    assert list(after.layers[0].shape) == [-1, 5]


async def test_equal_files_have_equal_digests(start: Start, repository: Path, small_model: onnx.ModelProto) -> None:
    put_model(repository, "twin", 7, small_model)
    server = await start("small", "twin")

    one = (await server.models.GetModel(_get("small"))).model.status.digest
    other = (await server.models.GetModel(_get("twin"))).model.status.digest

    assert one == other


async def test_with_explicit_mode_models_are_loaded_and_unloaded_by_call(start: Start) -> None:
    server = await start(mode=ModelMode.EXPLICIT)
    assert (await refusal(server.models.GetModel(_get("small")))).reason == "MODEL_NOT_LOADED"

    await server.models.LoadModel(_load("small"))
    assert (await server.explain.ExplainLinearity(linearity_request())).instance_count == 4

    unloaded = await server.models.UnloadModel(_unload("small"))
    assert unloaded.model.versions[0].state == model_pb2.MODEL_VERSION_STATE_UNLOADED
    assert (await refusal(server.explain.ExplainLinearity(linearity_request()))).reason == "MODEL_NOT_LOADED"


async def test_unloading_waits_for_the_calls_under_way(
    start: Start, repository: Path, slow_model: onnx.ModelProto
) -> None:
    put_model(repository, "slow", 1, slow_model)
    server = await start("slow")
    running = asyncio.ensure_future(server.explain.ExplainLinearity(linearity_request("slow", rows=40)))
    await asyncio.sleep(0.3)

    await server.models.UnloadModel(_unload("slow"))

    assert running.done()
    assert (await running).instance_count == 40


async def test_with_poll_mode_new_and_removed_versions_are_noticed(
    start: Start, repository: Path, small_model: onnx.ModelProto
) -> None:
    server = await start("small", mode=ModelMode.POLL, poll_seconds=0.1)
    put_model(repository, "fresh", 1, small_model)
    await server.until_available("fresh", seconds=20)

    (repository / "fresh" / "1" / "model.onnx").unlink()
    (repository / "fresh" / "1").rmdir()
    async with asyncio.timeout(20):
        while "fresh" in await _states(server):
            await asyncio.sleep(0.05)
    refused = await refusal(server.models.UnloadModel(_unload("small")))
    assert refused.reason == "NOT_ALLOWED"


async def test_a_selector_with_a_digest_takes_no_other_content(start: Start) -> None:
    server = await start("small")
    request = linearity_request()
    request.model.digest = (await server.models.GetModel(_get("small"))).model.status.digest
    assert (await server.explain.ExplainLinearity(request)).instance_count == 4

    request.model.digest = "sha256:" + "0" * 64
    refused = await refusal(server.explain.ExplainLinearity(request))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_CHANGED")


async def test_an_unknown_model_is_answered_with_the_known_ones(start: Start) -> None:
    server = await start("small")

    refused = await refusal(server.models.GetModel(_get("smal")))

    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert "small" in refused.message


async def test_models_are_listed_a_page_at_a_time(start: Start, repository: Path, small_model: onnx.ModelProto) -> None:
    for name in ("a", "b"):
        put_model(repository, name, 1, small_model)
    server = await start("small", "a", "b")

    first = await server.models.ListModels(model_service_pb2.ListModelsRequest(page_size=2))
    second = await server.models.ListModels(
        model_service_pb2.ListModelsRequest(page_size=2, page_token=first.next_page_token)
    )

    assert [m.name for m in first.models] == ["a", "b"]
    assert [m.name for m in second.models] == ["small"]
    assert not second.next_page_token
    refused = await refusal(server.models.ListModels(model_service_pb2.ListModelsRequest(page_size=-1)))
    assert refused.fields == ["page_size"]
