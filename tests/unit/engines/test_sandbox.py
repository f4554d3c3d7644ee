"""The sandbox's engine: really small, whatever is declared; on the books as declared."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.engines.gguf_files import SMALL, head

from roost.domain.errors import LaunchRefused
from roost.domain.hardware import Hardware, Placement, Resources
from roost.domain.model import Footprint, Model
from roost.engines.base import LaunchRequest
from roost.engines.sandbox import CONTEXT, SLOTS, SandboxEngine
from roost.policy.sizing import USUAL_MEMORY
from roost.testing.engine_contract import make_launch_request, spec_arguments

ENGINE = SandboxEngine()
LARGE = Model("acme/large", "sandbox", context_length=131_072, footprint=Footprint(70 * 10**9, 327_680))
DECLARED = Hardware(
    id="4x_nvidia_h100_80gb_sxm",
    accelerator="nvidia_h100_80gb_sxm",
    gpu_type="h100-80gb",
    gpu_count=4,
    gpu_link="sxm",
    memory_gb=80,
    cents_per_minute=22.4,
    resources=Resources(threads=96, memory_bytes=1 << 40, accelerators=4),
)


@pytest.fixture
def request_(tmp_path: Path) -> LaunchRequest:
    path = tmp_path / "small.gguf"
    path.write_bytes(head(SMALL) + b"\0" * 1000)
    placement = Placement("h100-1", "us-east-1a", "it has room")
    return make_launch_request(LARGE, str(path), hardware=DECLARED, placement=placement)


def test_it_runs_one_thread_with_a_small_context_and_no_accelerator(request_: LaunchRequest) -> None:
    spec = ENGINE.build(request_)
    arguments = spec_arguments(spec)
    wanted = {"--threads": "1", "--slots": str(SLOTS), "--context": str(CONTEXT), "--accelerators": "0"}
    assert {name: arguments[name] for name in wanted} == wanted
    assert int(arguments["--cache-ram-mib"]) < 1024
    assert spec.processes[0].env["OMP_NUM_THREADS"] == "1"


def test_it_reserves_the_declared_hardware_where_it_was_placed(request_: LaunchRequest) -> None:
    spec = ENGINE.build(request_)
    assert (spec.resources, spec.accelerator) == (DECLARED.resources, DECLARED.accelerator)
    assert (spec.node_id, spec.zone) == ("h100-1", "us-east-1a")


def test_the_gateway_is_told_of_the_slots_that_there_are_and_sizing_of_a_server_on_accelerators() -> None:
    capabilities = ENGINE.capabilities(LARGE)
    assert (capabilities.slots, capabilities.memory) == (SLOTS, USUAL_MEMORY)
    assert not capabilities.cancels_non_stream


def test_a_context_that_is_smaller_than_the_sandboxs_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    path.write_bytes(head(SMALL))
    short = Model("acme/short", "sandbox", context_length=512)
    assert spec_arguments(ENGINE.build(make_launch_request(short, str(path))))["--context"] == "512"


def test_its_version_says_what_it_is() -> None:
    assert (ENGINE.version() or "").startswith("sandbox on xllamacpp ")


def test_options_are_those_of_llama_cpp() -> None:
    ENGINE.check_options(Model("acme/a", "sandbox", options={"batch": "512"}))
    with pytest.raises(LaunchRefused, match="no option 'brain'"):
        ENGINE.check_options(Model("acme/a", "sandbox", options={"brain": "large"}))


def test_weights_that_are_not_there_are_refused() -> None:
    with pytest.raises(LaunchRefused) as refused:
        ENGINE.build(make_launch_request(LARGE, None, hardware=DECLARED))
    assert refused.value.code == "missing_weights"
