"""Write Triton's protocol as a descriptor set, for stubs in any language: python examples/descriptors.py OUT.

It is the protocol that comes with the installed tritonclient, so there is no copy of it to fall behind. The file is
what ``protoc --include_imports --descriptor_set_out`` would write, and what grpc-js, prost, buf and grpcurl read.
"""

from __future__ import annotations

import sys
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from tritonclient.grpc import service_pb2


def descriptor_set() -> bytes:
    """A serialized FileDescriptorSet of the service and what it imports, in the order of their imports."""
    files: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        for dependency in file.dependencies:
            add(dependency)
        files.setdefault(file.name, file)

    add(service_pb2.DESCRIPTOR)
    result = descriptor_pb2.FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(result.file.add())
    return result.SerializeToString()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    Path(sys.argv[1]).write_bytes(descriptor_set())
