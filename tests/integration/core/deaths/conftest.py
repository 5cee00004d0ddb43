"""A ward of one server, and models for it."""

from __future__ import annotations

import pytest

from supervisor_app.engine.demo_model import make_demo_model
from tests.integration.core.deaths.ward import ENGINE, PADDING_MB, Ward


@pytest.fixture
async def ward(transactional_db, tmp_path):
    if not ENGINE:
        pytest.skip("install llama.cpp (https://github.com/ggml-org/llama.cpp)")
    built = Ward(tmp_path)
    yield built
    await built.close()


@pytest.fixture(scope="package")
def demo(tmp_path_factory):
    pytest.importorskip("gguf", reason="pip install '.[engine]'")
    return make_demo_model(tmp_path_factory.mktemp("demo") / "demo.gguf")


@pytest.fixture(scope="package")
def large(tmp_path_factory):
    pytest.importorskip("gguf", reason="pip install '.[engine]'")
    path = make_demo_model(tmp_path_factory.mktemp("large") / "large.gguf", padding_mb=PADDING_MB)
    yield path
    path.unlink()


@pytest.fixture
def copy(demo, tmp_path):
    """Writes a variant of the demo model: `copy(edit)`, bytes in, bytes out."""

    def write(edit=lambda data: data):
        path = tmp_path / "model.gguf"
        path.write_bytes(edit(demo.read_bytes()))
        return path

    return write
