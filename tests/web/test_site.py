import hashlib
import io
import json
import re
import tarfile

import pytest
from helpers.model_folder import write_model_folder

from wsd_distill.cli import main, serve
from wsd_distill.web import runtime as runtime_module
from wsd_distill.web import write_site
from wsd_distill.web.runtime import PACKAGE, VERSION, cache_folder, copy_runtime
from wsd_distill.web.site import PARTS

DATA = {name: name.encode() for name in runtime_module.HASHES}


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    """Unpacked package with small files; an empty cache, and no npm."""
    monkeypatch.setattr(
        runtime_module, "HASHES", {name: hashlib.sha512(data).hexdigest() for name, data in DATA.items()}
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    folder = tmp_path / "package"
    (folder / "dist").mkdir(parents=True)
    for name, data in DATA.items():
        (folder / "dist" / name).write_bytes(data)
    return folder


@pytest.fixture
def npm(tmp_path, package):
    """A program npm that writes the package, and its calls to a file."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(package, "package")
    (tmp_path / "package.tgz").write_bytes(archive.getvalue())
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "npm"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n/bin/cp {tmp_path}/package.tgz "$5/{PACKAGE}-{VERSION}.tgz"\n'
    )
    program.chmod(0o755)
    return tmp_path / "calls"


def test_the_folder(tmp_path, package, capsys):
    model = write_model_folder(tmp_path / "<pets>" / "model")
    assert (
        main(["export", str(model), "--format", "web", "--out", str(tmp_path / "site"), "--runtime", str(package)]) == 0
    )
    assert f"python -m http.server -d {tmp_path}/site" in capsys.readouterr().out
    site = tmp_path / "site"
    assert {path.name for path in site.iterdir()} == PARTS
    for name in ("model.onnx", "config.json"):
        assert (site / name).read_bytes() == (model / name).read_bytes()
    page = (site / "index.html").read_text()
    assert "<h1>&lt;pets&gt;</h1>" in page and 'data-boxes="no"' in page
    policy = re.search(r'Content-Security-Policy" content="(.+?)"', page)[1]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "http" not in policy
    for path in site.glob("*.[jhc]*s*"):
        if path.suffix in (".js", ".css", ".html"):
            assert "://" not in path.read_text()  # no address of another host
    write_site(model, site, runtime=package, with_boxes=True)  # replaces it
    assert 'data-boxes="yes"' in (site / "index.html").read_text()
    (site / "mine.txt").write_text("")
    with pytest.raises(FileExistsError, match="site exists: delete it, or give another folder"):
        write_site(model, site, runtime=package)


def test_npm_is_asked_once(tmp_path, npm):
    for i in range(2):
        (tmp_path / str(i)).mkdir()
        copy_runtime(tmp_path / str(i))
        assert {path.name: path.read_bytes() for path in (tmp_path / str(i)).iterdir()} == DATA
    assert npm.read_text().startswith(f"pack {PACKAGE}@{VERSION} --ignore-scripts") and npm.read_text().count("\n") == 1
    next(cache_folder().iterdir()).write_bytes(b"damaged")
    copy_runtime(tmp_path / "0")
    assert npm.read_text().count("\n") == 2


def test_errors_of_the_runtime(tmp_path, package, npm):
    copy_runtime(tmp_path, tmp_path / "package.tgz")
    hint = f"give a file that 'npm pack {PACKAGE}@{VERSION}' writes, or its unpacked folder"
    name = next(iter(DATA))
    (package / "dist" / name).write_bytes(b"other")
    with pytest.raises(ValueError, match=rf"package: dist/{name} is not that of {PACKAGE} {VERSION}: {hint}"):
        copy_runtime(tmp_path, package)
    (package / "dist" / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"package has no dist/{name}: {hint}"):
        copy_runtime(tmp_path, package)
    with pytest.raises(FileNotFoundError, match=rf"none.tgz does not exist: {hint}"):
        copy_runtime(tmp_path, tmp_path / "none.tgz")
    (tmp_path / "text.tgz").write_text("text")
    with pytest.raises(ValueError, match=r"text.tgz cannot be read as an npm package \("):
        copy_runtime(tmp_path, tmp_path / "text.tgz")
    (tmp_path / "bin" / "npm").write_text("#!/bin/sh\necho 'no network' >&2\nexit 1\n")
    with pytest.raises(RuntimeError, match=r"npm cannot download .* \(no network\): try again, or use --runtime"):
        copy_runtime(tmp_path)
    (tmp_path / "bin" / "npm").unlink()
    with pytest.raises(FileNotFoundError, match=r"is not installed: install npm, or use --runtime FILE"):
        copy_runtime(tmp_path)
    assert not cache_folder().exists()


def test_errors_of_the_command(tmp_path, package, capsys):
    model = str(write_model_folder(tmp_path / "model"))
    (tmp_path / "empty").mkdir()
    for arguments, text in (
        ([str(tmp_path / "empty"), "--format", "web"], "has no config.json: --format web needs a model folder"),
        ([model, "--format", "web"], "--out is missing: give the web folder to write"),
        ([model, "--format", "web", "--int8"], "--int8: the page runs model.onnx; leave --int8 out"),
        ([model, "--runtime", "x"], "--runtime x is for --format web: add it, or leave --runtime out"),
    ):
        assert main(["export", *arguments]) == 2
        assert text in capsys.readouterr().err
    (tmp_path / "model" / "model.onnx").unlink()
    with pytest.raises(FileNotFoundError, match="model has no model.onnx, which the page runs: export the model again"):
        write_site(model, tmp_path / "site", runtime=package)
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("teacher", [None, "run"])
def test_serve(tmp_path, package, monkeypatch, capsys, teacher):
    model = write_model_folder(tmp_path / "model")
    served = {}

    def make_server(folder, host, port, find_boxes):
        served.update(page=open(f"{folder}/index.html").read(), boxes=find_boxes)  # noqa: SIM115
        raise OSError(f"{host}:{port} cannot be opened")

    monkeypatch.setattr(serve, "make_server", make_server)
    monkeypatch.setattr(serve, "load_evidence", lambda run, *_: json.dumps({"run": str(run)}))
    options = ["--teacher", teacher] if teacher else []
    assert main(["serve", str(model), "--runtime", str(package), *options]) == 2
    assert capsys.readouterr().err == "wsd serve: error: 127.0.0.1:8000 cannot be opened\n"
    assert served["boxes"] == ('{"run": "run"}' if teacher else None)
    assert f'data-boxes="{"yes" if teacher else "no"}"' in served["page"]
