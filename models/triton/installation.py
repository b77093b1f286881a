"""Where the embedded tritonserver lies, and what its process needs around it (found by trying, see docs)."""

from __future__ import annotations

import platform
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from radserve.errors import ErrorCode, ModelError

STUB = "triton_python_backend_stub"


@dataclass(frozen=True, slots=True)
class TritonInstallation:
    """The parts of Triton in the wheel nvidia-pytriton. pytriton itself is never imported: it needs gevent."""

    server: Path
    python_backend: Path
    stub: Path
    libraries: Path

    def environment(self) -> dict[str, str]:
        """The whole environment of the server's process: nothing is inherited, so no secret reaches a model.

        The stub finds packages through the `python3` that comes first on PATH; PYTHONPATH would not be enough.
        """
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "LD_LIBRARY_PATH": f"{self.libraries}:{sysconfig.get_config_var('LIBDIR')}",
            "PYTHONNOUSERSITE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "LC_ALL": "C.UTF-8",
        }

    def write_backends(self, folder: Path) -> None:
        """Make a backend directory: the Python backend with the stub for this Python beside it."""
        target = folder / "python"
        shutil.copytree(self.python_backend, target)
        shutil.copyfile(self.stub, target / STUB)
        (target / STUB).chmod(0o755)


def find_installation() -> TritonInstallation:
    """Find the embedded Triton; raises MODEL_UNAVAILABLE naming what is missing and what to do instead."""
    spec = find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise _unavailable(f"nvidia-pytriton is not installed ({sys.platform} {platform.machine()})")
    package = Path(spec.submodule_search_locations[0])
    base = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = TritonInstallation(
        server=base / "bin" / "tritonserver",
        python_backend=base / "backends" / "python",
        stub=base / "python_backend_stubs" / version / STUB,
        libraries=package.parent / "nvidia_pytriton.libs",
    )
    for part in (found.server, found.python_backend, found.stub, found.libraries):
        if not part.exists():
            raise _unavailable(f"nvidia-pytriton has no {part.name} for Python {version}")
    return found


def _unavailable(cause: str) -> ModelError:
    advice = "use an outside Triton (--triton URL) or the in-process runner"
    return ModelError(ErrorCode.MODEL_UNAVAILABLE, f"the embedded Triton cannot run here: {cause}; {advice}")
