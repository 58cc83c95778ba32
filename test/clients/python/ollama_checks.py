"""Ollama's own client for Python: pydantic models read every answer, so a wrong type is an error."""

import asyncio
from enum import Enum

import ollama
from pydantic import BaseModel

from checks import ANSWER, KEY, MODEL, QUESTION, TOO_LONG, URL, check, expect, expect_error, expect_idle, run

client = ollama.Client(host=URL, headers={"authorization": f"Bearer {KEY}"})
messages = [{"role": "user", "content": QUESTION}]
exact = {"temperature": 0, "repeat_penalty": 1}


def get_weather(city: str) -> str:
    """The weather in a city.

    Args:
      city: The city
    """
    return f"sunny in {city}"


def ask(text):
    return [{"role": "user", "content": text}]


@check("chat in one piece")
def _():
    answer = client.chat(model=MODEL, messages=messages, options=exact)
    expect((answer.message.content, answer.done_reason, answer.eval_count), (ANSWER, "stop", 7))
    assert answer.total_duration >= answer.prompt_eval_duration + answer.eval_duration > 0


@check("chat as a stream")
def _():
    parts = list(client.chat(model=MODEL, messages=messages, options=exact, stream=True))
    expect("".join(part.message.content or "" for part in parts), ANSWER)
    expect([part.done for part in parts], [False] * (len(parts) - 1) + [True])


@check("chat from many tasks at once, by the asynchronous client")
def _():
    async def all_of_them():
        own = ollama.AsyncClient(host=URL, headers={"authorization": f"Bearer {KEY}"})
        one = lambda: own.chat(model=MODEL, messages=messages, options=exact)
        return await asyncio.gather(*(one() for _ in range(6)))

    expect([answer.message.content for answer in asyncio.run(all_of_them())], [ANSWER] * 6)


class City(str, Enum):
    paris = "Paris"
    rome = "Rome"


class Capital(BaseModel):
    city: City
    french: bool


@check("structured output by a pydantic model, with a reference inside")
def _():
    answer = client.chat(model=MODEL, messages=messages, options=exact, format=Capital.model_json_schema())
    expect(Capital.model_validate_json(answer.message.content).city, City.paris)


@check("a Python function as a tool, and its result")
def _():
    question = ask("What is the weather in Paris?")
    answer = client.chat(model=MODEL, messages=question, tools=[get_weather], options={**exact, "num_predict": 60})
    [call] = answer.message.tool_calls
    expect((call.function.name, call.function.arguments), ("get_weather", {"city": "Paris"}))
    result = {"role": "tool", "tool_name": "get_weather", "content": get_weather(**call.function.arguments)}
    more = client.chat(model=MODEL, messages=[*question, answer.message, result], options={**exact, "num_predict": 16})
    assert more.message.content


@check("two calls in a stream")
def _():
    stream = client.chat(
        model=MODEL,
        messages=ask("What is the weather in Paris and in Berlin?"),
        tools=[get_weather],
        options={**exact, "num_predict": 90},
        stream=True,
    )
    calls = [call for part in stream for call in part.message.tool_calls or []]
    expect([call.function.arguments for call in calls], [{"city": "Paris"}, {"city": "Berlin"}])


@check("log probabilities")
def _():
    answer = client.chat(model=MODEL, messages=messages, options={**exact, "num_predict": 4}, logprobs=True, top_logprobs=2)
    expect("".join(one.token for one in answer.logprobs), answer.message.content)
    expect([len(one.top_logprobs) for one in answer.logprobs], [2] * 4)


@check("generate, on from a context")
def _():
    first = client.generate(model=MODEL, prompt=QUESTION, options=exact)
    expect(first.response, ANSWER)
    expect(len(first.context), first.prompt_eval_count + first.eval_count)
    more = client.generate(model=MODEL, prompt="And of Italy?", context=first.context, options={**exact, "num_predict": 8})
    assert more.prompt_eval_count > len(first.context)


@check("generate in a stream, raw, with a limit")
def _():
    parts = list(
        client.generate(
            model=MODEL, prompt="One, two, three, four,", raw=True, stream=True, options={**exact, "num_predict": 4}
        )
    )
    assert "five" in "".join(part.response for part in parts)
    expect(parts[-1].done_reason, "length")


@check("embeddings of many texts and of one")
def _():
    answer = client.embed(model=MODEL, input=["a cat", "a kitten"])
    expect([len(vector) for vector in answer.embeddings], [576, 576])
    expect(len(client.embed(model=MODEL, input="a cat", dimensions=64).embeddings[0]), 64)
    expect(len(client.embeddings(model=MODEL, prompt="a cat").embedding), 576)


@check("list, show and ps")
def _():
    expect([model.model for model in client.list().models], [f"{MODEL}:latest"])
    expect([model.model for model in client.ps().models], [f"{MODEL}:latest"])
    shown = client.show(MODEL)
    expect((shown.details.format, shown.details.quantization_level), ("gguf", "Q4_1"))
    assert "tools" in shown.capabilities and shown.modelinfo["general.architecture"] == "llama"


@check("a model that is not here is a ResponseError with status 404")
def _():
    error = expect_error(ollama.ResponseError, "not found", lambda: client.chat(model="other", messages=messages))
    expect(error.status_code, 404)


@check("a conversation that is too long loses its oldest turns, and a text to embed is refused if it may not be cut")
def _():
    long = [*ask(TOO_LONG), {"role": "assistant", "content": "Well."}, *messages]
    answer = client.chat(model=MODEL, messages=long, options=exact)
    expect((answer.message.content, answer.prompt_eval_count < 100), (ANSWER, True))
    embed = lambda truncate: client.embed(model=MODEL, input=TOO_LONG, truncate=truncate)
    expect(len(embed(True).embeddings[0]), 576)
    expect_error(ollama.ResponseError, "holds 1024", lambda: embed(False))


@check("an option that does not exist is named")
def _():
    wrong = {"temprature": 1}
    expect_error(
        ollama.ResponseError, "options.temprature", lambda: client.chat(model=MODEL, messages=messages, options=wrong)
    )


@check("without a key, the error says which header is missing")
def _():
    stranger = ollama.Client(host=URL)
    error = expect_error(ollama.ResponseError, "Authorization: Bearer", lambda: stranger.generate(MODEL, "hi"))
    expect(error.status_code, 401)


@check("pull is refused with a sentence that says where models come from")
def _():
    expect_error(ollama.ResponseError, "SLMModel", lambda: client.pull("llama3"))


@check("a stream that is left early gives its slot back")
def _():
    stream = client.generate(model=MODEL, prompt="Tell a long story.", stream=True, options={"num_predict": 900})
    next(iter(stream))
    stream.close()
    expect_idle()


run()
