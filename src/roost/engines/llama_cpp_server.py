"""The process of the ``llama_cpp`` engine: ``python -m roost.engines.llama_cpp_server --listen ADDRESS --model FILE``.

It imports little, since its start is part of every cold start. TERM ends it at once: by then the replica is drained.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys


def main() -> int:
    """Load the model and serve until killed; the exit code of a failed start."""
    options = parse(sys.argv[1:])
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias} if options.alias else set()
    if options.listen.startswith("unix:"):
        path = options.listen.removeprefix("unix:")
        if os.path.exists(path):
            os.unlink(path)
        params.hostnames = [path]
    else:
        host, _, port = options.listen.rpartition(":")
        params.hostnames, params.port = [host], int(port)
    params.n_parallel = options.slots
    # The context is divided among the slots: each gets the model's whole length.
    params.n_ctx = options.context * options.slots
    params.kv_unified = False
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads_batch or options.threads
    params.cache_ram_mib = options.cache_ram_mib
    if options.batch:
        params.n_batch = options.batch
    if options.ubatch:
        params.n_ubatch = options.ubatch
    # A comment each second on silent streams: a client that is gone is noticed by it.
    params.sse_ping_interval = 1
    params.endpoint_metrics = True
    params.ui = False
    if options.speculation:
        params.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_MOD]
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        # llama.cpp has written the cause above.
        sys.stderr.write(f"llama.cpp did not start: {error}\n")
        return 1
    sys.stderr.write(f"serving {options.model} at {server.listening_address}\n")
    while True:
        signal.pause()


def parse(argv: list[str]) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(prog="llama_cpp_server", description=__doc__)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias", default="")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--threads-batch", type=int)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--ubatch", type=int)
    parser.add_argument("--cache-ram-mib", type=int, default=256)
    parser.add_argument("--no-speculation", dest="speculation", action="store_false")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
