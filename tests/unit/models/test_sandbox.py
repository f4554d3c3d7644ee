"""The sandbox's catalog: known names, one download, and the memory that the real models need."""

from __future__ import annotations

import pytest

from roost.domain.model import Model
from roost.engines.registry import names
from roost.models import entry, sandbox
from roost.models.catalog import SMOLLM2

MODELS = {model.id: model for model in sandbox.catalog()}
L3_70B = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


@pytest.mark.parametrize("model", sandbox.catalog(), ids=lambda model: model.id)
def test_each_entry_is_one_that_a_user_could_add(model: Model) -> None:
    entry.check(model, names())
    assert model.display_name
    assert model.organization
    assert model.built_in


def test_the_names_of_the_reference_and_widely_used_ones_are_there() -> None:
    assert len(MODELS) == len(sandbox.catalog())
    assert {L3_70B, "meta-llama/Llama-3-8b", "openai/gpt-oss-20b", "deepseek-ai/DeepSeek-R1"} <= set(MODELS)


def test_all_have_the_same_weights_and_say_what_they_really_are() -> None:
    assert {model.source for model in MODELS.values()} == {SMOLLM2.source}
    assert {model.engine for model in MODELS.values()} == {"sandbox"}
    for model in MODELS.values():
        assert "SmolLM2 135M" in model.display_name
        assert model.footprint is not None
