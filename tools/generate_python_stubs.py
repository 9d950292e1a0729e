"""Generates the Python stubs of the contract into clients/python.

The HTTP annotations are left out of them: they serve transcoding proxies, which read the protos
themselves, and would make every client depend on googleapis-common-protos.

Usage: generate_python_stubs.py IMAGE OUTPUT_DIRECTORY, where IMAGE is what `buf build -o IMAGE` wrote.
"""

import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

HTTP_ANNOTATIONS = "google/api/annotations.proto"


def without_http_annotations(image: descriptor_pb2.FileDescriptorSet) -> descriptor_pb2.FileDescriptorSet:
    """The same files without the google.api.http option and without its import."""
    kept = descriptor_pb2.FileDescriptorSet()
    for file in image.file:
        if file.name.startswith("google/api/"):
            continue
        copy = kept.file.add()
        copy.CopyFrom(file)
        if HTTP_ANNOTATIONS in copy.dependency:
            copy.dependency.remove(HTTP_ANNOTATIONS)
        for service in copy.service:
            for method in service.method:
                # The only method option that the contract uses is google.api.http.
                method.ClearField("options")
    return kept


def main(image_path: str, output: str) -> int:
    """Writes the stubs; returns the exit code of protoc."""
    image = descriptor_pb2.FileDescriptorSet.FromString(Path(image_path).read_bytes())
    stripped = without_http_annotations(image)
    files = sorted(f.name for f in stripped.file if f.name.startswith("sidelight/"))
    package = Path(output, "sidelight", "v1")
    for stale in (*package.glob("*_pb2*.py"), *package.glob("*_pb2*.pyi")):
        stale.unlink()
    with tempfile.NamedTemporaryFile(suffix=".binpb") as descriptor_set:
        Path(descriptor_set.name).write_bytes(stripped.SerializeToString())
        code = protoc.main(
            [
                "protoc",
                f"--descriptor_set_in={descriptor_set.name}",
                f"--python_out={output}",
                f"--mypy_out={output}",
                *files,
            ]
        )
        services = [name for name in files if name.endswith("_service.proto")]
        code = code or protoc.main(
            [
                "protoc",
                f"--descriptor_set_in={descriptor_set.name}",
                f"--grpc_python_out={output}",
                f"--mypy_grpc_out={output}",
                *services,
            ]
        )
    return int(code)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
