"""Inference on the wire, as far as it is described: the gateway passes bodies on, with fields that are not here.

For the description of the API only: nothing parses requests or answers with these. What an engine does not know it
ignores or refuses by itself.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Passed(BaseModel):
    """A document that is passed on: further fields are welcome."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


Model = Field(description="Id or name of a deployment.", min_length=1)


class ChatMessage(Passed):
    """One message of a conversation."""

    role: str = Field(description="system, user, assistant or tool.")
    content: str | list[dict[str, Any]] | None = Field(default=None, description="Text, or parts of several kinds.")
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class StreamOptions(Passed):
    """What a stream holds besides the answer."""

    include_usage: bool = Field(default=False, description="Send one more chunk, with no choices and the usage.")


class ResponseFormat(Passed):
    """The form that the answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = Field(default=None, description="Of OpenAI's clients: name and schema.")
    schema_: dict[str, Any] | None = Field(default=None, alias="schema", description="Of classic clients: the schema.")


class Generation(Passed):
    """What chat and completions have in common."""

    model: str = Model
    max_tokens: int | None = Field(default=None, description="Longest answer, in tokens.")
    temperature: float | None = Field(default=None, description="0: always the likeliest token.")
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    n: int | None = Field(default=None, description="How many answers.")
    stop: str | list[str] | None = Field(default=None, description="Texts at which the answer ends.")
    seed: int | None = None
    stream: bool | None = Field(default=None, description="Answer with server-sent events, ended by `data: [DONE]`.")
    stream_options: StreamOptions | None = None
    echo: bool | None = Field(default=None, description="Begin the answer with the prompt.")
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None


class ChatRequest(Generation):
    """The body of `POST /chat/completions`."""

    messages: list[ChatMessage]
    max_completion_tokens: int | None = Field(default=None, description="The newer name of max_tokens.")
    logprobs: bool | int | None = Field(
        default=None,
        description="true: log probabilities in OpenAI's shape; a number: that many per token in the classic shape.",
    )
    top_logprobs: int | None = Field(default=None, description="With logprobs true: alternatives per token.")
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: ResponseFormat | None = None
    context_length_exceeded_behavior: Literal["error", "truncate"] | None = Field(
        default=None, description="What becomes of a conversation that is too long."
    )


class CompletionRequest(Generation):
    """The body of `POST /completions`."""

    prompt: str | list[Any] = Field(description="Text, texts, or tokens.")
    suffix: str | None = None
    logprobs: int | None = Field(default=None, description="How many log probabilities per token.")


class EmbeddingRequest(Passed):
    """The body of `POST /embeddings`."""

    model: str = Model
    input: str | list[Any] = Field(description="Text, texts, or tokens.")
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


class RerankRequest(Passed):
    """The body of `POST /rerank`."""

    model: str = Model
    query: str
    documents: list[str | dict[str, Any]]
    top_n: int | None = Field(default=None, description="How many to return.")
    return_documents: bool | None = None


class Usage(Passed):
    """Tokens that the request took."""

    prompt_tokens: int
    completion_tokens: int | None = None
    total_tokens: int | None = None


class ChatCompletion(Passed):
    """A whole answer to a conversation."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="Seconds since the epoch.")
    model: str
    choices: list[dict[str, Any]] = Field(description="Each with index, message and finish_reason.")
    usage: Usage | None = None


class Completion(Passed):
    """A whole answer to a prompt."""

    id: str
    object: str = "text_completion"
    created: int = Field(description="Seconds since the epoch.")
    model: str
    choices: list[dict[str, Any]] = Field(description="Each with index, text and finish_reason.")
    usage: Usage | None = None


class Embeddings(Passed):
    """One vector for each input."""

    object: Literal["list"] = "list"
    model: str
    data: list[dict[str, Any]] = Field(description="Each with index and embedding.")
    usage: Usage | None = None


class Ranking(Passed):
    """Documents by relevance to the query."""

    model: str
    results: list[dict[str, Any]] = Field(description="Each with index and relevance_score, the best first.")


class Readiness(Passed):
    """Whether a gateway worker serves, and from which routing table."""

    status: Literal["ok", "unavailable"]
    reason: str | None = None
    version: str
    control_connected: bool
    table: dict[str, Any] | None = None
