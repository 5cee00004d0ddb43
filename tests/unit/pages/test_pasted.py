"""A pasted command line as the fields of a form, and the remarks on what has no field."""

from __future__ import annotations

from supervisor_app.pages.presenters.pasted import pasted


def test_flags_with_a_field_fill_it_and_the_others_stay_flags():
    found = pasted("$ /opt/b/llama-server --models-dir /srv/models --host 0.0.0.0 -c 512 --jinja")
    assert found.fields == {
        "models_dir": "/srv/models",
        "model_path": "",
        "host": "0.0.0.0",
        "context": "512",
        "slots": "",
        "gpu_layers": "",
        "args": "--jinja",
    }
    kept, program = found.remarks
    assert kept == "Kept as flags, as they are: --jinja"
    assert program.startswith("Left out: /opt/b/llama-server.")


def test_a_container_is_read_and_the_values_of_its_variables_are_not_told():
    found = pasted(
        "docker run -e HF_TOKEN=hf_secret -v /srv:/models -p 9000:8080 ghcr.io/ggml-org/llama.cpp:server "
        "-m /models/m.gguf --port 8080"
    )
    assert found.fields["model_path"] == "/srv/m.gguf"
    assert found.fields["port"] == "9000"
    assert "hf_secret" not in str(found.remarks)
    assert any("HF_TOKEN" in remark for remark in found.remarks)


def test_a_model_that_the_flags_fetch_leaves_its_path_at_the_default():
    found = pasted("llama-server -hf ggml-org/gemma-3-4b-it-GGUF")
    assert found.fields["model_path"] == "./models/model.gguf"
    assert found.fields["args"] == "-hf ggml-org/gemma-3-4b-it-GGUF"
