"""The flags of llama-server that a web form may set: those that only say how the model is computed.

Among the others are flags that run programs (`--mcp-servers-json`, `--tools`), read files (`--path`,
`--lora`), write files (`--log-file`, `--slot-save-path`), load over the network (`--rpc`, `-hf`) or open the
server to others (`--cors-origins`, `--api-prefix`). A staff account that may set those has a shell on the
machine, so they come from files on disk alone. So does a flag that we do not know.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from supervisor_app.core.command_line.argv import spelled

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMES = """
-t --threads -tb --threads-batch -C --cpu-mask -Cr --cpu-range --cpu-strict --prio --poll
-Cb --cpu-mask-batch -Crb --cpu-range-batch --cpu-strict-batch --prio-batch --poll-batch --threads-http
-c --ctx-size -n --predict --n-predict -b --batch-size -ub --ubatch-size --keep --swa-full
-np --parallel -cb --cont-batching -nocb --no-cont-batching --context-shift --no-context-shift
-fa --flash-attn --perf --no-perf -e --escape --no-escape --warmup --no-warmup --check-tensors
--spm-infill
--rope-scaling --rope-scale --rope-freq-base --rope-freq-scale
--yarn-orig-ctx --yarn-ext-factor --yarn-attn-factor --yarn-beta-slow --yarn-beta-fast
-kvo --kv-offload -nkvo --no-kv-offload -kvu --kv-unified -no-kvu --no-kv-unified --kv-unified-per-slot
-ctk --cache-type-k -ctv --cache-type-v -dt --defrag-thold
-cram --cache-ram --cache-reuse --cache-prompt --no-cache-prompt --cache-idle-slots --no-cache-idle-slots
-ctxcp --ctx-checkpoints --swa-checkpoints -cms --checkpoint-min-step -sps --slot-prompt-similarity
--mlock --mmap --no-mmap --direct-io --no-direct-io -lm --load-mode -lzm --lazy-mode --numa
--repack -nr --no-repack --no-host --op-offload --no-op-offload --override-kv
-dev --device -ot --override-tensor -ngl --gpu-layers --n-gpu-layers -sm --split-mode -ts --tensor-split
-mg --main-gpu -fit --fit -fitt --fit-target -fitc --fit-ctx
-cmoe --cpu-moe -ncmoe --n-cpu-moe --moe-cache-mib -ncffn --n-cpu-ffn
-a --alias --tags --embedding --embeddings --embd-normalize --pooling --rerank --reranking
--mmproj-auto --no-mmproj --no-mmproj-auto --mmproj-offload --no-mmproj-offload -mmdev --mmproj-device
--image-min-tokens --image-max-tokens --mtmd-batch-max-tokens --video-fps --video-timestamp-interval
--jinja --no-jinja --chat-template --chat-template-kwargs --skip-chat-parsing --no-skip-chat-parsing
--prefill-assistant --no-prefill-assistant --reasoning-format -rea --reasoning --reasoning-effort
--reasoning-budget --reasoning-budget-message --reasoning-preserve --no-reasoning-preserve
-r --reverse-prompt -sp --special
--metrics --slots --no-slots -to --timeout --sse-ping-interval --sleep-idle-seconds --ui --webui --no-ui
--no-webui
--models-max --models-autoload --no-models-autoload --offline
--log-colors --log-prefix --no-log-prefix --log-timestamps --no-log-timestamps
--samplers -s --seed --sampler-seq --sampling-seq --ignore-eos --temp --temperature --top-k --top-p
--min-p
--top-nsigma --top-n-sigma --xtc-probability --xtc-threshold --typical --typical-p
--repeat-last-n --repeat-penalty --presence-penalty --frequency-penalty
--dry-multiplier --dry-base --dry-allowed-length --dry-penalty-last-n --dry-sequence-breaker
--adaptive-target --adaptive-decay --dynatemp-range --dynatemp-exp --mirostat --mirostat-lr --mirostat-ent
-l --logit-bias --grammar -j --json-schema -bs --backend-sampling
--spec-type --spec-default --spec-draft-n-max --spec-draft-n-min --spec-draft-n-ubatch
--spec-draft-p-split --draft-p-split --spec-draft-p-min --draft-p-min
--spec-draft-ngl -ngld --gpu-layers-draft --n-gpu-layers-draft --spec-draft-device -devd --device-draft
--spec-draft-threads -td --threads-draft --spec-draft-threads-batch -tbd --threads-batch-draft
--spec-draft-type-k -ctkd --cache-type-k-draft --spec-draft-type-v -ctvd --cache-type-v-draft
--spec-draft-cpu-moe -cmoed --cpu-moe-draft
--spec-draft-n-cpu-moe --spec-draft-ncmoe -ncmoed --n-cpu-moe-draft
--spec-draft-override-tensor -otd --override-tensor-draft
--spec-draft-backend-sampling --no-spec-draft-backend-sampling --spec-draft-sampling
--spec-ngram-mod-n-min --spec-ngram-mod-n-max --spec-ngram-mod-n-match
--spec-ngram-simple-size-n --spec-ngram-simple-size-m --spec-ngram-simple-min-hits
--spec-ngram-map-k-size-n --spec-ngram-map-k-size-m --spec-ngram-map-k-min-hits
--spec-ngram-map-k4v-size-n --spec-ngram-map-k4v-size-m --spec-ngram-map-k4v-min-hits
"""
HARMLESS = frozenset(_NAMES.split())
OF_OTHER_BUILDS = frozenset({"--mlock", "--mmap", "--no-mmap", "--direct-io", "--no-direct-io"})
"""Harmless flags that llama-server's builds before late 2026 have instead of `--load-mode`."""
_NUMBER = re.compile(r"-(\d|\.\d)")


def not_for_forms(args: Sequence[str]) -> list[str]:
    """Return the flags among these words that a web form may not set, each once, in their order.

    Every word that begins with a dash and is no negative number counts, also in the place of a value: how
    many values a flag takes differs between builds, and a flag that passes as a value would go unseen.
    """
    flags = [spelled(word) for word in args if word.startswith("-") and not _NUMBER.match(word)]
    return [flag for flag in dict.fromkeys(flags) if flag not in HARMLESS]
