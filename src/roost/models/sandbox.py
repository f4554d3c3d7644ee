"""The sandbox's catalog: names of models that people deploy, each with the memory it would really need.

Used by the composition root for ``roost serve --sandbox``. Every entry's weights are those of SmolLM2 135M, and its
display name says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from roost.domain.model import Footprint, Model
from roost.models.catalog import SMOLLM2

ENGINE = "sandbox"
MILLION = 10**6


class Known(NamedTuple):
    """A model as its publisher describes it.

    ``weights_mb`` are the weights as they are usually served (FP8 for those called Turbo and DeepSeek's, MXFP4 for
    gpt-oss, else BF16) in units of a million bytes. ``kv_bytes`` is what one token of context takes, in 16 bits:
    2 (key and value) x layers x heads x size of a head x 2 bytes.
    """

    id: str
    name: str
    organization: str
    weights_mb: int
    kv_bytes: int
    context_length: int
    type: str = "chat"


KNOWN = (
    Known("meta-llama/Llama-3.3-70B-Instruct-Turbo", "Llama 3.3 70B Instruct Turbo", "Meta", 70_554, 327_680, 131_072),
    Known(
        "meta-llama/Meta-Llama-3.1-405B-Instruct-Turbo",
        "Llama 3.1 405B Instruct Turbo",
        "Meta",
        405_853,
        516_096,
        131_072,
    ),
    Known(
        "meta-llama/Meta-Llama-3.1-70B-Instruct-Turbo", "Llama 3.1 70B Instruct Turbo", "Meta", 70_554, 327_680, 131_072
    ),
    Known(
        "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo", "Llama 3.1 8B Instruct Turbo", "Meta", 8_030, 131_072, 131_072
    ),
    Known("meta-llama/Llama-3-8b", "Llama 3 8B", "Meta", 16_061, 131_072, 8192, "language"),
    Known("meta-llama/Llama-3-8b-chat-hf", "Llama 3 8B Instruct", "Meta", 16_061, 131_072, 8192),
    Known("Qwen/Qwen2.5-7B-Instruct-Turbo", "Qwen 2.5 7B Instruct Turbo", "Qwen", 7_616, 57_344, 32_768),
    Known("Qwen/Qwen2.5-72B-Instruct-Turbo", "Qwen 2.5 72B Instruct Turbo", "Qwen", 72_706, 327_680, 32_768),
    Known("mistralai/Mistral-7B-Instruct-v0.3", "Mistral 7B Instruct v0.3", "Mistral AI", 14_496, 131_072, 32_768),
    Known("mistralai/Mixtral-8x7B-Instruct-v0.1", "Mixtral 8x7B Instruct v0.1", "Mistral AI", 93_406, 131_072, 32_768),
    # Latent attention: 61 layers of 512 + 64 numbers, key and value in one.
    Known("deepseek-ai/DeepSeek-R1", "DeepSeek R1", "DeepSeek", 671_026, 70_272, 131_072),
    Known("deepseek-ai/DeepSeek-V3", "DeepSeek V3", "DeepSeek", 671_026, 70_272, 131_072),
    Known("google/gemma-2-9b-it", "Gemma 2 9B Instruct", "Google", 18_483, 344_064, 8192),
    Known("google/gemma-2-27b-it", "Gemma 2 27B Instruct", "Google", 54_454, 376_832, 8192),
    # Of the layers of the next three only those with full attention grow with the context (10 of 62, 12 of 24, 18 of
    # 36); the windows of the others are small.
    Known("google/gemma-3-27b-it", "Gemma 3 27B Instruct", "Google", 54_865, 81_920, 131_072),
    Known("openai/gpt-oss-20b", "gpt-oss 20B", "OpenAI", 13_761, 24_576, 131_072),
    Known("openai/gpt-oss-120b", "gpt-oss 120B", "OpenAI", 65_249, 36_864, 131_072),
    # Encoders work on a request in one piece; counted as if they kept of each token what a decoder keeps.
    Known("BAAI/bge-large-en-v1.5", "BGE Large EN v1.5", "BAAI", 670, 98_304, 512, "embedding"),
    Known(
        "intfloat/multilingual-e5-large-instruct",
        "Multilingual E5 Large Instruct",
        "intfloat",
        1120,
        98_304,
        512,
        "embedding",
    ),
    Known("BAAI/bge-reranker-v2-m3", "BGE Reranker v2 M3", "BAAI", 1136, 98_304, 8192, "rerank"),
)


def catalog() -> tuple[Model, ...]:
    """The built-in models of a sandbox, SmolLM2 under its own name among them."""
    return (*(_entry(known) for known in KNOWN), replace(SMOLLM2, engine=ENGINE))


def _entry(known: Known) -> Model:
    return Model(
        id=known.id,
        engine=ENGINE,
        source=SMOLLM2.source,
        type=known.type,
        display_name=f"{known.name} (sandbox: really SmolLM2 135M)",
        organization=known.organization,
        context_length=known.context_length,
        built_in=True,
        footprint=Footprint(known.weights_mb * MILLION, known.kv_bytes),
    )
