"""Quantizations by their names: in the name of a file, or as the number of its metadata. Pure."""

from __future__ import annotations

import re

_TAG = re.compile(
    r"(?<![a-z0-9])(?P<tag>(?:ud-)?(?:i?q\d|tq\d)(?:_[a-z0-9]+)*|bf16|f16|fp16|f32|fp32|mxfp4(?:_moe)?|nvfp4)(?![a-z0-9])",
    re.IGNORECASE,
)
_AS_WRITTEN = {"FP16": "F16", "FP32": "F32"}
_BY_NUMBER = {
    **dict(enumerate(("F32", "F16", "Q4_0", "Q4_1"))),
    **dict(enumerate(("Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L"), 7)),
    **dict(enumerate(("Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K"), 14)),
    **dict(enumerate(("IQ2_XXS", "IQ2_XS", "Q2_K_S", "IQ3_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL"), 19)),
    **dict(enumerate(("IQ3_S", "IQ3_M", "IQ2_S", "IQ2_M", "IQ4_XS", "IQ1_M", "BF16"), 26)),
    **dict(enumerate(("TQ1_0", "TQ2_0", "MXFP4_MOE"), 36)),
}
"""`enum llama_ftype` of llama.cpp's include/llama.h."""


def named_quantization(name: str) -> str:
    """Return the quantization that the name of a file tells, such as `Q4_K_M`, or empty."""
    tags = [match["tag"].upper() for match in _TAG.finditer(name)]
    return _AS_WRITTEN.get(tags[-1], tags[-1]) if tags else ""


def numbered_quantization(number: object) -> str:
    """Return the name of `general.file_type`, or empty."""
    return _BY_NUMBER.get(number, "") if isinstance(number, int) else ""
