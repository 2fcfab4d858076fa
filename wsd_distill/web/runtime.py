"""The files of ONNX Runtime for browsers: the npm package onnxruntime-web, of one version and with known hashes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from ..io import atomic_write, check_file

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
HASHES = {  # SHA-512 of the files in the package's folder dist that one thread of WebAssembly needs
    "ort.wasm.bundle.min.mjs": "d4a705f0258065eaad4dcbcb80a3ed38c5c86e459e87ef8b0c24290e14390115"
    "711c02f554d2f9aebd0e23e3314db98d200365744fc0feaf8ee2048a81232359",
    "ort-wasm-simd-threaded.wasm": "1adeded62203219fcf5c484cfce5657aa5875689b490423f86cf1ca1dd1cad77"
    "15f630c6337f41db71ee42794e3a00ce0b7c78939a71220b5d83368bf6ea7730",
}
TIMEOUT = 600  # seconds, for a package of 33 MB


def copy_runtime(folder: Path, source: Path | None = None) -> None:
    """Write the runtime's files into ``folder``.

    Args:
        folder: exists.
        source: tarball of the npm package, or its unpacked folder; None: the user's cache, which npm fills once.

    Raises:
        FileNotFoundError: ``source`` does not exist or lacks a file, or npm is not installed.
        ValueError: a file of ``source`` has another hash, or is no tarball.
        RuntimeError: npm cannot download the package.
    """
    if source is not None:
        files = read_package(source)
    elif not (files := _read_cache()):
        files = _download()
        for name, data in files.items():
            with atomic_write(cache_folder() / name) as part:
                part.write_bytes(data)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/wsd_distill/onnxruntime-web-<version>``, by default in ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "wsd_distill" / f"{PACKAGE}-{VERSION}"


def read_package(source: Path) -> dict[str, bytes]:
    """Read the runtime's files from a tarball or an unpacked folder, and check their hashes."""
    if not source.exists():
        raise FileNotFoundError(f"--runtime {source} does not exist: {_hint()}")
    if source.is_dir():
        files = {name: _read_file(source / "dist" / name) for name in HASHES}
    else:
        check_file(source)
        try:
            with tarfile.open(source) as archive:
                files = {name: _read_member(archive, f"package/dist/{name}") for name in HASHES}
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ValueError(f"--runtime {source} cannot be read as an npm package ({error}): {_hint()}") from error
    for name, data in files.items():
        if data is None:
            raise FileNotFoundError(f"--runtime {source} has no dist/{name}: {_hint()}")
        if not _is_valid(name, data):
            raise ValueError(f"--runtime {source}: dist/{name} is not that of {PACKAGE} {VERSION}: {_hint()}")
    return {name: data for name, data in files.items() if data is not None}


def _hint() -> str:
    return f"give a file that 'npm pack {PACKAGE}@{VERSION}' writes, or its unpacked folder"


def _is_valid(name: str, data: bytes) -> bool:
    return hashlib.sha512(data).hexdigest() == HASHES[name]


def _read_cache() -> dict[str, bytes]:
    """Return the cached files, or an empty dict if one is missing or damaged."""
    files = {name: _read_file(cache_folder() / name) for name in HASHES}
    return {name: data for name, data in files.items() if data} if _all_valid(files) else {}


def _all_valid(files: dict[str, bytes | None]) -> bool:
    return all(data is not None and _is_valid(name, data) for name, data in files.items())


def _read_file(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _read_member(archive: tarfile.TarFile, name: str) -> bytes | None:
    try:
        file = archive.extractfile(name)
    except KeyError:
        return None
    return None if file is None else file.read()


def _download() -> dict[str, bytes]:
    """Let npm, with the user's settings, download the package."""
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError(
            f"npm, which downloads {PACKAGE} {VERSION}, is not installed: install npm, or use --runtime FILE with what "
            f"'npm pack {PACKAGE}@{VERSION}' writes on another machine"
        )
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--pack-destination", folder]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=TIMEOUT)
        except subprocess.SubprocessError as error:
            lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            text = f"npm cannot download {PACKAGE} {VERSION} ({lines[0] if lines else error})"
            raise RuntimeError(f"{text}: try again, or use --runtime FILE_OR_FOLDER") from error
        return read_package(Path(folder) / f"{PACKAGE}-{VERSION}.tgz")
