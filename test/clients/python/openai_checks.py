"""OpenAI's own client for Python."""

import json

import openai
from pydantic import BaseModel

from checks import ANSWER, KEY, MODEL, QUESTION, TOO_LONG, URL, check, expect, expect_error, expect_idle, run

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
chat = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
weather = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def ask(text):
    return {**chat, "messages": [{"role": "user", "content": text}]}


class Capital(BaseModel):
    city: str
    people_in_millions: int


@check("chat in one piece")
def _():
    answer = client.chat.completions.create(**chat)
    choice = answer.choices[0]
    expect((choice.message.content, choice.finish_reason, answer.usage.completion_tokens), (ANSWER, "stop", 7))


@check("chat as a stream, with usage")
def _():
    parts = list(client.chat.completions.create(**chat, stream=True, stream_options={"include_usage": True}))
    expect("".join(part.choices[0].delta.content or "" for part in parts if part.choices), ANSWER)
    expect((parts[-1].choices, parts[-1].usage.completion_tokens), ([], 7))


@check("n, seed, stop and limits")
def _():
    create = client.chat.completions.create
    several = create(**{**chat, "temperature": 1}, n=2, seed=3, max_completion_tokens=5)
    again = create(**{**chat, "temperature": 1}, n=2, seed=3, max_completion_tokens=5)
    expect([one.message.content for one in several.choices], [one.message.content for one in again.choices])
    expect([one.finish_reason for one in several.choices], ["length", "length"])
    expect(create(**chat, stop=" Paris").choices[0].message.content, "The capital of France is")


@check("log probabilities")
def _():
    choice = client.chat.completions.create(**chat, logprobs=True, top_logprobs=2, max_tokens=3).choices[0]
    expect("".join(one.token for one in choice.logprobs.content), choice.message.content)
    expect([bytes(one.bytes).decode() for one in choice.logprobs.content], [one.token for one in choice.logprobs.content])


@check("structured output parsed into a pydantic model")
def _():
    answer = client.chat.completions.parse(**chat, response_format=Capital, max_tokens=60)
    assert isinstance(answer.choices[0].message.parsed, Capital)


@check("any JSON object")
def _():
    answer = client.chat.completions.create(**chat, response_format={"type": "json_object"}, max_tokens=100, seed=1)
    content = answer.choices[0].message.content
    assert content.startswith("{")
    if answer.choices[0].finish_reason == "stop":
        json.loads(content)


@check("two calls of a tool, streamed and collected by the client")
def _():
    question = ask("What is the weather in Paris and in Berlin?")
    with client.chat.completions.stream(**question, tools=[weather], max_tokens=90) as stream:
        message = stream.get_final_completion().choices[0].message
    expect([json.loads(call.function.arguments) for call in message.tool_calls], [{"city": "Paris"}, {"city": "Berlin"}])


@check("a forced call, and its result")
def _():
    forced = {"type": "function", "function": {"name": "get_weather"}}
    answer = client.chat.completions.create(
        **ask("What is the weather in Paris?"), tools=[weather], tool_choice=forced, max_tokens=60
    )
    message = answer.choices[0].message
    [call] = message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    more = client.chat.completions.create(**{**chat, "messages": [*chat["messages"], message, result]}, max_tokens=16)
    assert more.choices[0].message.content


@check("completions")
def _():
    answer = client.completions.create(model=MODEL, prompt=["One, two, three,", "A, B, C,"], max_tokens=4, temperature=0)
    expect([choice.index for choice in answer.choices], [0, 1])
    assert "four" in answer.choices[0].text


@check("responses, in one piece and as a stream")
def _():
    whole = client.responses.create(model=MODEL, input=QUESTION, temperature=0)
    expect((whole.output_text, whole.status), (ANSWER, "completed"))
    with client.responses.stream(model=MODEL, input=QUESTION, temperature=0) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        expect("".join(deltas), stream.get_final_response().output_text)
    parsed = client.responses.parse(model=MODEL, input=QUESTION, temperature=0, text_format=Capital, max_output_tokens=60)
    assert isinstance(parsed.output_parsed, Capital)


@check("embeddings")
def _():
    answer = client.embeddings.create(model=MODEL, input=["a cat", "a kitten"])
    expect([len(one.embedding) for one in answer.data], [576, 576])
    plain = client.embeddings.create(model=MODEL, input="a cat", encoding_format="float").data[0].embedding
    assert max(abs(a - b) for a, b in zip(plain, answer.data[0].embedding)) < 1e-5
    assert answer.usage.prompt_tokens > 3


@check("models")
def _():
    expect([model.id for model in client.models.list()], [MODEL])
    expect(client.models.retrieve(MODEL).id, MODEL)


@check("a wrong key is an AuthenticationError")
def _():
    stranger = openai.OpenAI(base_url=f"{URL}/v1", api_key="wrong", max_retries=0)
    error = expect_error(openai.AuthenticationError, "API key", lambda: stranger.models.list())
    expect(error.code, "invalid_api_key")


@check("a model that is not here is a NotFoundError")
def _():
    create = client.chat.completions.create
    error = expect_error(openai.NotFoundError, MODEL, lambda: create(**{**chat, "model": "gpt-4"}))
    expect((error.code, error.param), ("model_not_found", "model"))


@check("a prompt that is too long and a value out of bounds are BadRequestErrors")
def _():
    create = client.chat.completions.create
    error = expect_error(openai.BadRequestError, "context holds 1024", lambda: create(**ask(TOO_LONG)))
    expect(error.code, "context_length_exceeded")
    error = expect_error(openai.BadRequestError, "from 0 to 2", lambda: create(**{**chat, "temperature": 3}))
    expect(error.param, "temperature")


@check("a stream that is left early gives its slot back")
def _():
    with client.chat.completions.create(**ask("Tell a long story."), stream=True, max_tokens=900) as stream:
        next(iter(stream))
    expect_idle()


@check("a request that times out gives its slot back")
def _():
    slow = client.with_options(timeout=0.3)
    create = slow.chat.completions.create
    long = ask("Tell a long story.") | {"max_tokens": 900, "extra_body": {"ignore_eos": True}}
    expect_error(openai.APITimeoutError, ".", lambda: create(**long))
    expect_idle()


run()
