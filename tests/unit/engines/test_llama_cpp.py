"""What the llama.cpp engine decides without starting anything."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.engines.gguf_files import SMALL, head

from roost.domain.errors import LaunchRefused
from roost.domain.model import Source
from roost.domain.replica import ExitInfo
from roost.engines.base import LaunchRequest
from roost.engines.llama_cpp import MAX_PROMPT_CACHE_MIB, MIB, LlamaCppEngine
from roost.testing.builders import make_model
from roost.testing.engine_contract import make_launch_request, spec_arguments

ENGINE = LlamaCppEngine()
PER_TOKEN = 23040
GIB = 1024**3


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "small.gguf"
    path.write_bytes(head(SMALL) + b"\0" * 1000)
    return path


def ask(weights: Path | str | None, *, memory_bytes: int = 4 * GIB, threads: int = 2, **over: Any) -> LaunchRequest:
    speculative = over.pop("speculative_decoding", True)
    model = make_model(engine="llama_cpp", **{"source": None, **over})
    path = None if weights is None else str(weights)
    return make_launch_request(
        model, path, memory_bytes=memory_bytes, threads=threads, speculative_decoding=speculative
    )


def refused(request: LaunchRequest) -> LaunchRefused:
    with pytest.raises(LaunchRefused) as caught:
        ENGINE.build(request)
    assert caught.value.message
    return caught.value


def test_threads_slots_and_context_go_on_the_command_line(weights: Path) -> None:
    spec = ENGINE.build(ask(weights, threads=3, slots=5, context_length=1024))
    arguments = spec_arguments(spec)
    wanted = {"--threads": "3", "--slots": "5", "--context": "1024", "--accelerators": "0"}
    assert {name: arguments[name] for name in wanted} == wanted
    assert (arguments["--model"], arguments["--alias"]) == (str(weights), "roost/model-00000001")
    assert spec.processes[0].env["OMP_NUM_THREADS"] == "3"
    assert dict(spec.processes[0].secrets) == {}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("64", "64")),
        ({"slots": 100}, ("100", "100")),
        ({"options": {"batch": "512"}}, ("512", None)),
        ({"options": {"ubatch": "32"}}, (None, "32")),
        ({"accelerators": 1}, (None, None)),
    ],
    ids=["small steps", "a step has a token of each slot", "the entry's", "the entry's own part", "on accelerators"],
)
def test_prompts_are_computed_in_small_steps_on_cpus(
    weights: Path, fields: dict[str, Any], expected: tuple[str | None, str | None]
) -> None:
    accelerators = fields.pop("accelerators", 0)
    request = ask(weights, memory_bytes=64 * GIB, **fields)
    resources = replace(request.hardware.resources, accelerators=accelerators)
    arguments = spec_arguments(ENGINE.build(replace(request, hardware=replace(request.hardware, resources=resources))))
    assert (arguments.get("--batch"), arguments.get("--ubatch")) == expected


def test_four_slots_unless_the_entry_says_otherwise(weights: Path) -> None:
    assert spec_arguments(ENGINE.build(ask(weights)))["--slots"] == "4"
    assert ENGINE.capabilities(make_model(slots=None)).slots == 4
    assert ENGINE.capabilities(make_model(slots=9)).slots == 9


def test_the_gateway_must_ask_for_streams() -> None:
    capabilities = ENGINE.capabilities(make_model())
    assert (capabilities.cancels_non_stream, capabilities.can_continue, capabilities.metrics) == (False, True, True)
    assert (capabilities.any_model_name, capabilities.managed) == (True, True)


@pytest.mark.parametrize(
    ("asked", "options", "expected"),
    [
        (True, {}, False),
        (True, {"speculation": "on"}, True),
        (True, {"speculation": "off"}, False),
        (True, {"speculation": "on", "type": "embedding"}, False),
        (False, {"speculation": "on"}, False),
    ],
)
def test_speculation_where_the_entry_turns_it_on_and_the_endpoint_does_not_turn_it_off(
    weights: Path, asked: bool, options: dict[str, str], expected: bool
) -> None:
    chosen = {name: value for name, value in options.items() if name != "type"}
    request = ask(weights, speculative_decoding=asked, options=chosen, type=options.get("type", "chat"))
    assert ("--speculation" in ENGINE.build(request).processes[0].argv) is expected
    spoilt = ENGINE.capabilities(request.model).speculation_spoils_logprobs
    assert spoilt is ("--speculation" in ENGINE.build(replace(request, speculative_decoding=True)).processes[0].argv)


def test_the_probe_follows_the_models_type() -> None:
    assert ENGINE.probe(make_model(type="chat")).path == "/v1/chat/completions"
    assert ENGINE.probe(make_model(type="language")).path == "/v1/completions"
    assert ENGINE.probe(make_model(type="embedding")).path == "/v1/embeddings"
    assert ENGINE.probe(make_model(type="rerank")).path == "/v1/rerank"


def test_embeddings_are_pooled_as_the_entry_says_else_as_the_file_does_else_by_the_mean(
    weights: Path, tmp_path: Path
) -> None:
    def arguments(path: Path, **options: str) -> dict[str, str]:
        return spec_arguments(ENGINE.build(ask(path, type="embedding", options=options, context_length=512)))

    assert arguments(weights)["--pooling"] == "mean"
    assert arguments(weights, pooling="last")["--pooling"] == "last"
    named = tmp_path / "named.gguf"
    named.write_bytes(head({**SMALL, "llama.pooling_type": 3}) + b"\0" * 1000)
    assert "--pooling" not in arguments(named)
    assert arguments(named, ubatch="256") | {"--task": "embedding", "--batch": "512", "--ubatch": "256"} == arguments(
        named, ubatch="256"
    )


def test_a_reranker_is_told_to_be_one(weights: Path) -> None:
    arguments = spec_arguments(ENGINE.build(ask(weights, type="rerank", context_length=512)))
    assert (arguments["--task"], arguments["--ubatch"], "--pooling" in arguments) == ("rerank", "512", False)


# -- memory


@pytest.mark.parametrize(
    ("option", "most"), [(None, MAX_PROMPT_CACHE_MIB), ("10", 10), ("0", 0), ("lots", MAX_PROMPT_CACHE_MIB)]
)
def test_what_the_prompt_cache_may_take_is_told(option: str | None, most: int) -> None:
    memory = ENGINE.capabilities(make_model(options={"prompt_cache_mib": option} if option else {})).memory
    assert memory is not None
    assert memory.prompt_cache_bytes == most * MIB


def test_weights_count_twice_on_cpus_and_the_process_has_its_room(weights: Path) -> None:
    room = int(spec_arguments(ENGINE.build(ask(weights, slots=1, context_length=1)))["--cache-ram-mib"])
    needed = 2 * weights.stat().st_size + PER_TOKEN + 256 * MIB
    assert room == (4 * GIB - needed) // 2 // MIB


def test_the_context_of_all_slots_is_counted(weights: Path) -> None:
    few = ENGINE.build(ask(weights, slots=1, context_length=2048))
    many = ENGINE.build(ask(weights, slots=16, context_length=2048))
    difference = int(spec_arguments(few)["--cache-ram-mib"]) - int(spec_arguments(many)["--cache-ram-mib"])
    assert abs(difference - 15 * 2048 * PER_TOKEN / 2 / MIB) <= 1


def test_an_entry_may_ask_for_less_cache_but_not_for_more(weights: Path) -> None:
    room = int(spec_arguments(ENGINE.build(ask(weights)))["--cache-ram-mib"])
    for wanted, expected in (("0", 0), ("10", 10), (str(room + 1), room)):
        spec = ENGINE.build(ask(weights, options={"prompt_cache_mib": wanted}))
        assert int(spec_arguments(spec)["--cache-ram-mib"]) == expected


def test_a_model_that_cannot_fit_is_refused_in_numbers(weights: Path) -> None:
    error = refused(ask(weights, memory_bytes=1 * GIB, slots=4, context_length=100_000))
    assert error.code == "out_of_memory"
    assert "context of 4 x 100000 tokens 8789 MiB" in error.message
    assert error.message.endswith(
        "but 2x_cpu has 1024 MiB: choose larger hardware or a context_length of at most 8738."
    )


def test_a_large_file_gets_more_time(tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    path.write_bytes(head(SMALL))
    assert ENGINE.build(ask(path)).start_timeout == timedelta(seconds=120)
    with path.open("r+b") as file:
        file.truncate(10 * GIB)  # a hole: no disk is used
    assert ENGINE.build(ask(path, memory_bytes=64 * GIB)).start_timeout > timedelta(seconds=300)
    spec = ENGINE.build(ask(path, memory_bytes=64 * GIB, options={"start_timeout_s": "7"}))
    assert spec.start_timeout == timedelta(seconds=7)


# -- refusals


def test_no_weights(tmp_path: Path) -> None:
    assert refused(ask(None)).code == "missing_weights"
    assert refused(ask(tmp_path / "gone.gguf")).code == "missing_weights"
    assert refused(ask(tmp_path)).code == "missing_weights"


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 a zip file"])
def test_not_gguf(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    error = refused(ask(tmp_path / "other"))
    assert error.code == "wrong_format"
    assert "GGUF" in error.message


def test_cut_short(weights: Path) -> None:
    size = weights.stat().st_size
    sized = ask(weights, source=Source("file", str(weights), size_bytes=size))
    assert ENGINE.build(sized).processes
    error = refused(ask(weights, source=Source("file", str(weights), size_bytes=size + 1)))
    assert error.code == "corrupt_weights"
    assert str(size) in error.message


@pytest.mark.parametrize(
    "options",
    [
        {"speculation": "maybe"},
        {"pooling": "sum"},
        {"prompt_cache_mib": "-1"},
        {"prompt_cache_mib": "lots"},
        {"prompt_cache_mib": "²"},
        {"prompt_cache_mib": "8193"},
        {"start_timeout_s": "0"},
        {"start_timeout_s": "86401"},
        {"start_timeout_s": "9" * 30},
        {"start_timeout_s": "9" * 5000},
        {"batch": "0"},
        {"batch": "1048577"},
        {"ubatch": "9" * 5000},
        {"n_gpu_layers": "3"},
    ],
)
def test_options_that_it_does_not_take(weights: Path, options: dict[str, str]) -> None:
    error = refused(ask(weights, options=options))
    assert error.code == "unknown_option"
    assert next(iter(options)) in error.message
    assert len(error.message) < 300


def test_the_largest_options_that_it_takes(weights: Path) -> None:
    options = {"batch": "1048576", "ubatch": "1048576", "start_timeout_s": "86400", "prompt_cache_mib": "8192"}
    assert ENGINE.build(ask(weights, options=options)).start_timeout == timedelta(days=1)


def test_models_that_do_not_generate_text(weights: Path) -> None:
    assert refused(ask(weights, type="image")).code == "unsupported_model"


# -- explanations: lines as llama.cpp writes them

TENSOR = (
    "0.00.024.099 E llama_model_load: error loading model: tensor 'blk.16.ffn_down.weight' data is not within the "
    "file bounds, model is corrupted or incomplete"
)
AFTER = ("0.00.024.142 E srv    load_model: failed to load model, '/m.gguf'",)


@pytest.mark.parametrize(
    ("line", "code", "retryable"),
    [
        (TENSOR, "corrupt_weights", False),
        ("0.00.004.187 E gguf_init_from_reader: failed to read key-value pairs", "corrupt_weights", False),
        ("0.00.004.163 E gguf_init_from_reader: this GGUF file is version 9 but this software only supports up to "
         "version 3", "wrong_format", False),
        ("0.00.043.382 E llama_model_load: error loading model: unknown model architecture: 'xxxxx'", "wrong_format",
         False),
        ("0.00.004.285 E gguf_init_from_file: failed to open GGUF file '/m.gguf' (No such file or directory)",
         "missing_weights", False),
        ("0.00.002.730 E srv         start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 18765",
         "port_in_use", True),
        ("llama_cpp_server: cannot listen on /x/e.sock: No such file or directory", "port_in_use", True),
        ("0.00.217.717 E ggml_aligned_malloc: insufficient memory (attempted to allocate 72000.00 MB)",
         "out_of_memory", True),
        ("0.00.153.153 E llama_model_load: error loading model: mmap failed: Cannot allocate memory", "out_of_memory",
         True),
        ("0.00.272.440 E common_chat_templates_init: failed to initialize chat template", "bad_chat_template", False),
        ("0.00.272.440 E something: nobody has ever seen", "engine_start_failed", False),
    ],
)  # fmt: skip
def test_a_failed_start_is_its_first_error_line(line: str, code: str, retryable: bool) -> None:
    failure = ENGINE.explain(ExitInfo(code=70, log_tail=("0.00.002 W srv: hello", line, *AFTER)))
    assert (failure.code, failure.retryable) == (code, retryable)
    assert line in failure.message


@pytest.mark.parametrize(
    ("exit", "code", "retryable"),
    [
        (ExitInfo(signal=9), "engine_killed", True),
        (ExitInfo(signal=11, log_tail=("0.1 E srv send_error: request exceeds the available context size",)),
         "engine_crashed", True),
        (ExitInfo(code=0, log_tail=(TENSOR,)), "engine_crashed", True),
        (ExitInfo(signal=6, log_tail=("terminate called after throwing an instance of 'std::bad_alloc'",)),
         "out_of_memory", True),
        (ExitInfo(signal=6, log_tail=("/x/ggml.c:1: GGML_ASSERT(false) failed",)), "engine_crashed", True),
        (ExitInfo(code=2, log_tail=("llama_cpp_server: error: unrecognized arguments: --nope",)), "unknown_option",
         False),
        (ExitInfo(code=69, log_tail=("llama_cpp_server: missing package xllamacpp: No module named 'xllamacpp'",)),
         "missing_package", False),
        (ExitInfo(code=69, log_tail=("llama_cpp_server: missing accelerator: 1 reserved, but this finds none",)),
         "missing_accelerator", False),
        (ExitInfo(code=1, log_tail=("ModuleNotFoundError: No module named 'roost'",)), "missing_package", False),
        (ExitInfo(cause="cannot execute /v/python: No such file or directory"), "cannot_execute", False),
        (ExitInfo(cause="its supervisor died", log_tail=(TENSOR,)), "runtime_failure", True),
    ],
)  # fmt: skip
def test_other_ends(exit: ExitInfo, code: str, retryable: bool) -> None:
    failure = ENGINE.explain(exit)
    assert (failure.code, failure.retryable) == (code, retryable)


def test_a_clients_mistake_does_not_explain_a_later_crash() -> None:
    lines = ("0.16.204 E srv    send_error: task id = 12, error: request (5031 tokens) exceeds the context",)
    failure = ENGINE.explain(ExitInfo(signal=11, log_tail=lines))
    assert "5031" not in failure.message
    assert failure.log_tail == lines


def test_hardware_with_accelerators_says_so_to_the_process(weights: Path) -> None:
    request = ask(weights, memory_bytes=1 * GIB, context_length=100_000)
    resources = replace(request.hardware.resources, accelerators=2)
    hardware = replace(request.hardware, accelerator="nvidia_t4", resources=resources, memory_gb=16)
    spec = ENGINE.build(replace(request, hardware=hardware))
    assert spec_arguments(spec)["--accelerators"] == "2"
