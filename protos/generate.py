"""Write, per generation, the descriptor set and the type stub that its .proto files describe.

    python protos/generate.py            write them
    python protos/generate.py --check    exit 1 if what is committed is not what would be written

Needs grpcio-tools (the `dev` extra), whose protoc does the reading.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

# Run as a script: sys.path begins with protos/ itself, not with the folder that holds it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from protos.stubs import stub_text

if TYPE_CHECKING:
    from collections.abc import Sequence

GENERATIONS = ("kata1", "kata2")


def compile_schema(directory: Path) -> FileDescriptorSet:
    """The descriptors of all .proto files below `directory`, and of what they import.

    Raises RuntimeError if protoc refuses them; it has told why on stderr by then.
    """
    import grpc_tools
    from grpc_tools import protoc

    sources = sorted(str(path) for path in directory.rglob("*.proto"))
    well_known = Path(grpc_tools.__file__).with_name("_proto")
    with tempfile.NamedTemporaryFile(suffix=".binpb") as output:
        arguments = ["protoc", f"-I{directory}", f"-I{well_known}", "--include_imports"]
        if protoc.main([*arguments, f"--descriptor_set_out={output.name}", *sources]) != 0:
            raise RuntimeError(f"protoc failed on {directory}")
        return FileDescriptorSet.FromString(Path(output.name).read_bytes())


def outputs(directory: Path) -> dict[Path, bytes]:
    """What is generated from the .proto files in `directory`: content by path."""
    files = compile_schema(directory)
    return {
        directory / "descriptors.binpb": files.SerializeToString(deterministic=True),
        directory / "__init__.pyi": stub_text(files).encode(),
    }


def main(argv: Sequence[str]) -> int:
    """Write or check the generated files of both generations."""
    parser = argparse.ArgumentParser(description="Generate descriptor sets and type stubs.")
    parser.add_argument("--check", action="store_true", help="only compare with what is committed")
    check = parser.parse_args(argv).check
    stale = []
    for generation in GENERATIONS:
        for path, content in outputs(Path(__file__).with_name(generation)).items():
            if path.exists() and path.read_bytes() == content:
                continue
            stale.append(path)
            if not check:
                path.write_bytes(content)
    for path in stale:
        place = path.relative_to(Path(__file__).parent)
        sys.stdout.write(f"{place} is out of date: run protos/generate.py\n" if check else f"wrote {place}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
