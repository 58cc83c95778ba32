"""LangChain's models for Ollama and for OpenAI."""

from typing import Literal

import ollama
import openai
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from checks import ANSWER, KEY, MODEL, QUESTION, TOO_LONG, URL, check, expect, expect_error, expect_idle, run

headers = {"client_kwargs": {"headers": {"authorization": f"Bearer {KEY}"}}}
local = {"model": MODEL, "base_url": URL, "temperature": 0, "repeat_penalty": 1, "num_predict": 90, **headers}
by_ollama = ChatOllama(**local)
by_openai = ChatOpenAI(model=MODEL, base_url=f"{URL}/v1", api_key=KEY, temperature=0, max_tokens=90, max_retries=0)


class Capital(BaseModel):
    """A city."""

    city: Literal["Paris", "Rome"]


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


@check("ChatOllama: one piece and a stream")
def _():
    answer = by_ollama.invoke(QUESTION)
    expect((answer.content, answer.usage_metadata["output_tokens"]), (ANSWER, 7))
    expect("".join(part.content for part in by_ollama.stream([HumanMessage(QUESTION)])), ANSWER)


@check("ChatOllama: structured output")
def _():
    expect(by_ollama.with_structured_output(Capital, method="json_schema").invoke(QUESTION), Capital(city="Paris"))


@check("ChatOllama: tools and their results")
def _():
    question = HumanMessage("What is the weather in Paris and in Berlin?")
    answer = by_ollama.bind_tools([get_weather]).invoke([question])
    expect([call["args"] for call in answer.tool_calls], [{"city": "Paris"}, {"city": "Berlin"}])
    results = [get_weather.invoke(call) for call in answer.tool_calls]
    assert all(isinstance(result, ToolMessage) for result in results)
    assert by_ollama.invoke([question, answer, *results]).content


@check("OllamaLLM and OllamaEmbeddings")
def _():
    expect(OllamaLLM(**local).invoke(QUESTION), ANSWER)
    vectors = OllamaEmbeddings(model=MODEL, base_url=URL, **headers).embed_documents(["a cat", "a kitten"])
    expect([len(vector) for vector in vectors], [576, 576])


@check("ChatOllama: errors")
def _():
    other = ChatOllama(**local | {"model": "other"})
    expect_error(ollama.ResponseError, "not found", lambda: other.invoke(QUESTION))


@check("ChatOpenAI: one piece, a stream and a batch")
def _():
    answer = by_openai.invoke([SystemMessage("You are a helpful AI assistant."), HumanMessage(QUESTION)])
    assert "Paris" in answer.content
    parts = list(by_openai.stream(QUESTION, stream_usage=True))
    expect("".join(part.text for part in parts), ANSWER)
    expect(sum((part.usage_metadata or {"output_tokens": 0})["output_tokens"] for part in parts), 7)
    expect([one.content for one in by_openai.batch([QUESTION] * 4)], [ANSWER] * 4)


@check("ChatOpenAI: structured output by schema and by a forced call")
def _():
    for method in ("json_schema", "function_calling"):
        expect(by_openai.with_structured_output(Capital, method=method).invoke(QUESTION), Capital(city="Paris"))


@check("ChatOpenAI: tools in a stream")
def _():
    whole = None
    for part in by_openai.bind_tools([get_weather]).stream("What is the weather in Paris and in Berlin?"):
        whole = part if whole is None else whole + part
    expect([call["args"] for call in whole.tool_calls], [{"city": "Paris"}, {"city": "Berlin"}])


@check("ChatOpenAI: through the responses API")
def _():
    model = ChatOpenAI(model=MODEL, base_url=f"{URL}/v1", api_key=KEY, temperature=0, use_responses_api=True)
    expect(model.invoke(QUESTION).text, ANSWER)
    expect("".join(part.text for part in model.stream(QUESTION)), ANSWER)


@check("OpenAIEmbeddings")
def _():
    # Counting tokens on its own side would download a vocabulary, which is OpenAI's and not the model's.
    embedder = OpenAIEmbeddings(model=MODEL, base_url=f"{URL}/v1", api_key=KEY, check_embedding_ctx_length=False)
    expect([len(vector) for vector in embedder.embed_documents(["a cat", "a kitten"])], [576, 576])


@check("ChatOpenAI: errors and streams that are left")
def _():
    expect_error(openai.BadRequestError, "context holds 1024", lambda: by_openai.invoke(TOO_LONG))
    for model in (by_openai, by_ollama):
        stream = model.stream("Tell a long story.")
        next(stream)
        stream.close()
    expect_idle()


run()
