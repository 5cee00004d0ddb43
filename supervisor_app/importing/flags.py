"""Flags of llama-server in the spellings of presets and environments. Pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from supervisor_app.core.command_line.argv import spelled
from supervisor_app.core.command_line.fetching import names_repository
from supervisor_app.core.command_line.moved_door import INSTEAD, moved_door
from supervisor_app.core.command_line.shell import CommandLineError
from supervisor_app.core.command_line.taken_apart import FIELDS, take_apart
from supervisor_app.importing.found import ImportMistakeError, Server, shown_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX = "LLAMA_ARG_"
_VARIABLES = {
    "BATCH": "--batch-size",
    "UBATCH": "--ubatch-size",
    "ROPE_SCALING_TYPE": "--rope-scaling",
    "SPEC_DRAFT_CACHE_TYPE_K": "--spec-draft-type-k",
    "SPEC_DRAFT_CACHE_TYPE_V": "--spec-draft-type-v",
    "SPEC_DRAFT_HF_REPO": "--spec-draft-hf",
    "CHECKPOINT_MIN_SPACING_NT": "--checkpoint-min-step",
    "N_PARALLEL": "--parallel",
    "STATIC_PATH": "--path",
    "ENDPOINT_METRICS": "--metrics",
    "ENDPOINT_PROPS": "--props",
    "ENDPOINT_SLOTS": "--slots",
    "THINK": "--reasoning-format",
    "THINK_BUDGET": "--reasoning-budget",
    "THINK_BUDGET_MESSAGE": "--reasoning-budget-message",
}
"""Variables whose names do not follow from their flags (`llama-server --help`, build b11669)."""
_SHORT_NAMES = """
C Cb Cbd Cd Cr Crb Crd a ag b bs c cb cl cmoe cmoed cms cram ctk ctkd ctv ctvd ctxcp dev devd dr dt e fa
fit fitc fitt hf hfd hff hfr hfrd hft j jf kvo kvu l lcd lcs lm lv lzm m md mg mm mmdev mmu mu n ncffn ncmoe
ncmoed ngl ngld nkvo no-ag no-kvu nocb np nr ot otd r rea s sm sp sps t tb tbd td to ts ub v
"""
_SHORT = frozenset(_SHORT_NAMES.split())
_SWITCHES_NAMES = """
agent backend-sampling cache-idle-slots cache-prompt check-tensors cont-batching context-shift
cors-credentials cpu-moe cpu-moe-draft embedding embeddings escape ignore-eos jinja kv-offload kv-unified
log-disable log-jsonl log-prefix log-timestamps log-verbose lora-init-without-apply metrics mlock mmap
mmproj-auto mmproj-offload models-autoload no-host offline op-offload perf prefill-assistant props
reasoning-preserve repack rerank reranking reuse-port skip-chat-parsing slots
spec-draft-backend-sampling spec-draft-cpu-moe special spm-infill swa-full ui ui-mcp-proxy verbose warmup
webui webui-mcp-proxy
cb cmoe cmoed e kvo kvu nkvo no-kvu nocb nr sp v
"""
_SWITCHES = frozenset(_SWITCHES_NAMES.split())
"""Flags without a value, by their names without dashes."""
_WITHOUT_NEGATION_NAMES = """
backend-sampling check-tensors cpu-moe cpu-moe-draft embedding embeddings ignore-eos log-disable
log-verbose lora-init-without-apply metrics mlock no-host offline props rerank reranking reuse-port
spec-draft-cpu-moe special spm-infill swa-full verbose
cb cmoe cmoed e kvo kvu nkvo no-kvu nocb nr sp v
"""
_WITHOUT_NEGATION = frozenset(_WITHOUT_NEGATION_NAMES.split())
_TRUE, _FALSE = ("1", "true", "on", "yes", "enabled"), ("0", "false", "off", "no", "disabled")
_PREFIXES = ("env", "exec", "nohup")
"""Programs that only run the one behind them."""


def words_of(name: str, value: str) -> list[str]:
    """Return the words of one setting, named as a flag without its dashes or as a variable."""
    if name.startswith(PREFIX):
        rest = name.removeprefix(PREFIX)
        name = _VARIABLES.get(rest, rest.lower().replace("_", "-")).lstrip("-")
    name = name.lstrip("-")
    flag = f"-{name}" if name in _SHORT else f"--{name.replace('_', '-')}"
    bare = flag.lstrip("-")
    positive = bare.removeprefix("no-")
    if bare not in _SWITCHES and positive not in _SWITCHES:
        return [flag, value]
    if value.lower() in (*_TRUE, ""):
        return [flag]
    if value.lower() not in _FALSE:
        return [flag, value]
    if bare.startswith("no-") and bare not in _SWITCHES:
        return [f"--{positive}"]
    return [] if bare in _WITHOUT_NEGATION else [f"--no-{bare}"]


def server_of(name: str, where: str, words: Sequence[str], environment: Mapping[str, str]) -> Server:
    """Return the server of a command line and its environment. Raises ImportMistakeError."""
    rest, variables = list(words), dict(environment)
    while rest and (_is_prefix(rest[0]) or _is_assignment(rest[0])):
        key, equals, value = rest.pop(0).partition("=")
        if equals:
            variables[key] = value
    program = [rest.pop(0)] if rest and not rest[0].startswith("-") else []
    try:
        parts = take_apart(shlex.join([*program, *_as_flags(variables, rest), *rest]))
    except CommandLineError as error:
        raise ImportMistakeError(f"{where}: {error}.") from error
    server = Server(name=name, values=dict(parts.values), binary=parts.binary)
    server.environment = {
        key: value
        for key, value in variables.items()
        if not key.startswith(PREFIX) and key != "LLAMA_API_KEY"
    }
    args = _reachable(server, parts.args)
    if args:
        server.values["args"] = args
    server.fetches = names_repository(args)
    return server


def is_llama_server(words: Sequence[str]) -> bool:
    """Tell whether a command line starts llama-server by its own name."""
    rest = [word for word in words if not _is_prefix(word) and not _is_assignment(word)]
    return bool(rest) and rest[0].rpartition("/")[2].startswith("llama-server")


def _is_prefix(word: str) -> bool:
    return word.rpartition("/")[2] in _PREFIXES


def _is_assignment(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isidentifier()


def _as_flags(variables: Mapping[str, str], words: Sequence[str]) -> list[str]:
    """Return the flags for which variables stand. They come first: llama-server lets the last one win."""
    said = {FIELDS.get(spelled(word)) for word in words}
    settings = {**variables, f"{PREFIX}API_KEY": variables.get("LLAMA_API_KEY", "")}
    flags: list[str] = []
    for name, value in settings.items():
        if not name.startswith(PREFIX) or not value:
            continue
        found = words_of(name, value)
        if found and (FIELDS.get(found[0]) is None or FIELDS[found[0]] not in said):
            flags += found
    return flags


def _reachable(server: Server, args: Sequence[str]) -> list[str]:
    """Return the flags without those that keep llamaproxy from the server, each with a remark."""
    kept: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        why = moved_door([word]) and f"{moved_door([word])}. {INSTEAD}"
        if spelled(word) == "--api-key-file":
            why = "llamaproxy would not know these keys. Write api_key."
        if not why:
            kept.append(word)
            continue
        value = [rest.pop(0)] if "=" not in word and rest and not rest[0].startswith("-") else []
        server.remarks.append(f"left out: {shown_command([word, *value])}: {why}")
    key = server.values.get("api_key", "")
    if "," in key:
        server.values["api_key"] = key.partition(",")[0]
        server.remarks.append(
            "Of several API keys the first is kept. Clients get theirs with llama key add NAME."
        )
    return kept
