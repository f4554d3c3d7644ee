"""The proxy that one writes first: FastAPI in front, an httpx client behind, uvicorn around both. A peer, no example.

Started by ``peers`` as ``python -m benchmarks.gateway.httpx_proxy PORT UPSTREAM_PORT KEY``.
"""

from __future__ import annotations

import sys

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse

PASSED_ON = ("content-type", "content-length")


def proxy(upstream: str, key: str) -> FastAPI:
    """The application: a check of the key, then the answer's bytes as they come."""
    app = FastAPI()
    client = httpx.AsyncClient(base_url=upstream, timeout=600, limits=httpx.Limits(max_connections=None))

    @app.post("/v1/{path:path}")
    async def relay(path: str, request: Request) -> StreamingResponse:
        if request.headers.get("authorization") != f"Bearer {key}":
            raise HTTPException(401)
        headers = {"content-type": request.headers.get("content-type", "application/json")}
        message = client.build_request("POST", f"/v1/{path}", content=await request.body(), headers=headers)
        answer = await client.send(message, stream=True)
        kept = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
        return StreamingResponse(answer.aiter_raw(), answer.status_code, kept)

    return app


if __name__ == "__main__":
    port, upstream_port, api_key = sys.argv[1:]
    application = proxy(f"http://127.0.0.1:{upstream_port}", api_key)
    uvicorn.run(application, host="127.0.0.1", port=int(port), log_level="warning", backlog=4096)
