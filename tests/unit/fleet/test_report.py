"""The report of a crash: what is in it, in which order, and what never is."""

from __future__ import annotations

from dataclasses import replace

from supervisor_app.fleet.report import AFTER, BEFORE, Facts, around, write_report

FACTS = Facts(
    title="GPU out of memory",
    detail="cudaMalloc failed: out of memory",
    story="It was ready and lived for 41 m 00 s.",
    ended="exit code 1",
    times=8,
    build="b11669",
    argv=("/opt/bin/llama-server", "-m", "/home/jo doe/m.gguf", "-c", "8192"),
    environment={"CUDA_VISIBLE_DEVICES": "0"},
    lines=("first", "cudaMalloc failed", "last"),
    decisive="cudaMalloc failed",
    decisive_at=1,
    host=("Debian 13, kernel 6.12, x86_64",),
    devices=("RAM, 64.0 GiB",),
    model=("m.gguf, gemma3, Q6_K, 10.2 GiB",),
)


def test_a_report_has_what_an_issue_asks_for():
    assert (
        write_report(FACTS)
        == """### Name and version

llama-server, build b11669

### What happened

**GPU out of memory: cudaMalloc failed: out of memory**

It was ready and lived for 41 m 00 s. Ended with: exit code 1. It was seen 8 times with this build.

### Command line

```sh
…/llama-server -m '…/m.gguf' -c 8192
```

Environment:

```sh
CUDA_VISIBLE_DEVICES=0
```

### Relevant log output

```text
first
cudaMalloc failed
last
```

### Operating system, hardware and model

- Host: Debian 13, kernel 6.12, x86_64
- Device: RAM, 64.0 GiB
- Model: m.gguf, gemma3, Q6_K, 10.2 GiB

Reported with llamaproxy, which hid secrets and folders.
""".replace("…/llama-server -m", "'…/llama-server' -m")
    )


def test_a_fact_that_is_not_known_is_named_as_such():
    bare = replace(
        FACTS, detail="", times=1, build="", argv=(), environment={}, lines=(), decisive="", decisive_at=None
    )
    report = write_report(replace(bare, host=(), devices=(), model=()))
    assert "llama-server, build unknown" in report
    assert "**GPU out of memory**" in report
    assert "unknown: it was not started by llamaproxy" in report
    assert "It wrote nothing that is kept." in report
    assert "- Model: unknown" in report
    assert "Environment" not in report
    assert "times with this build" not in report


def test_the_lines_are_those_around_the_decisive_one():
    lines = [str(number) for number in range(100)]
    shown = around(replace(FACTS, lines=lines, decisive_at=50))
    assert (shown[0], shown[-1]) == (str(50 - BEFORE), str(50 + AFTER))


def test_a_decisive_line_that_is_older_comes_first():
    lines = [str(number) for number in range(100)]
    shown = around(replace(FACTS, lines=lines, decisive_at=None))
    assert (shown[0], shown[-1]) == ("cudaMalloc failed", "99")


def test_no_secret_is_in_it_wherever_it_was():
    facts = replace(
        FACTS,
        detail="could not use PLANTED-own-key",
        argv=(
            "llama-server",
            "--api-key",
            "PLANTED-flag",
            "--hf-token=PLANTED-token",
            "/home/PLANTED/x y.gguf",
        ),
        environment={"GGML_X": "PLANTED-own-key"},
        lines=(
            "Authorization: Bearer PLANTED-bearer",
            "key PLANTED-own-key and \x1b[31mred",
            "opened /home/PLANTED/models/x.gguf",
            "https://user:PLANTED@example.org/x",
        ),
        decisive_at=0,
        secrets=("PLANTED-own-key",),
    )
    report = write_report(facts)
    assert "PLANTED" not in report
    assert "\x1b" not in report
    assert "opened …/x.gguf" in report


def test_a_line_cannot_end_its_block():
    report = write_report(replace(FACTS, lines=("```", "### not a heading"), decisive_at=0))
    assert "````text\n```\n### not a heading\n````" in report
