"""Write Go stubs of Triton's protocol to triton/, from the descriptors that tritonclient carries: python generate.py.

No proto file is copied, and no protoc is needed: its plugins are called as it would call them. They are
``go install google.golang.org/protobuf/cmd/protoc-gen-go@latest`` and
``go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@latest``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from descriptors import descriptor_set  # noqa: E402  it stands in the folder above

PACKAGE = "densescan.example/service/triton"


def generate(plugin: str, folder: Path) -> list[Path]:
    """The files that a plugin of protoc, such as ``protoc-gen-go``, makes of the protocol.

    Raises:
        SystemExit: The plugin is not on the PATH, or refuses.
    """
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set()).file
    names = [file.name for file in files]
    packages = [f"M{name}={PACKAGE}" for name in names]
    request = plugin_pb2.CodeGeneratorRequest(
        file_to_generate=names, parameter=",".join([*packages, "paths=source_relative"]), proto_file=files
    )
    try:
        done = subprocess.run([plugin], input=request.SerializeToString(), stdout=subprocess.PIPE, check=True)
    except FileNotFoundError:
        sys.exit(f"{plugin} is not on the PATH.\n\n{__doc__}")
    response = plugin_pb2.CodeGeneratorResponse.FromString(done.stdout)
    if response.error:
        sys.exit(f"{plugin}: {response.error}")
    folder.mkdir(exist_ok=True)
    for file in response.file:
        (folder / file.name).write_text(file.content, encoding="utf-8")
    return [folder / file.name for file in response.file]


if __name__ == "__main__":
    for plugin in ("protoc-gen-go", "protoc-gen-go-grpc"):
        for path in generate(plugin, Path.cwd() / "triton"):
            sys.stdout.write(f"{path}\n")
