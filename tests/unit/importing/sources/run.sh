#!/bin/sh
# The big one, on the second card.
CUDA_VISIBLE_DEVICES=1 LLAMA_ARG_THREADS=8 exec /opt/llama.cpp/llama-server \
  -m ~/models/gpt-oss-20b-mxfp4.gguf \
  -c 0 -fa on --jinja --port 8080 \
  --api-key script-secret,another-secret
