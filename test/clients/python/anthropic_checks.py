"""Anthropic's own client for Python."""

import anthropic

from checks import ANSWER, KEY, MODEL, QUESTION, TOO_LONG, URL, check, expect, expect_error, expect_idle, run

client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)


def ask(text, **more):
    # The newest models take no temperature, so this client has no argument for it.
    exact = {"extra_body": {"temperature": 0}}
    return {"model": MODEL, "max_tokens": 90, "messages": [{"role": "user", "content": text}], **exact, **more}


weather = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@check("a message in one piece")
def _():
    message = client.messages.create(**ask(QUESTION))
    expect([(block.type, block.text) for block in message.content], [("text", ANSWER)])
    expect((message.stop_reason, message.usage.output_tokens), ("end_turn", 7))


@check("a message as a stream")
def _():
    with client.messages.stream(**ask(QUESTION)) as stream:
        expect("".join(stream.text_stream), ANSWER)
        expect(stream.get_final_message().stop_reason, "end_turn")


@check("two calls of a tool, streamed")
def _():
    with client.messages.stream(**ask("What is the weather in Paris and in Berlin?", tools=[weather])) as stream:
        message = stream.get_final_message()
    expect([block.input for block in message.content], [{"city": "Paris"}, {"city": "Berlin"}])
    expect(message.stop_reason, "tool_use")


@check("a forced call")
def _():
    message = client.messages.create(**ask(QUESTION, tools=[weather], tool_choice={"type": "any"}))
    expect([block.name for block in message.content], ["get_weather"])


@check("stop texts and counting")
def _():
    message = client.messages.create(**ask(QUESTION, stop_sequences=[" Paris"]))
    expect((message.stop_reason, message.stop_sequence), ("stop_sequence", " Paris"))
    assert client.messages.count_tokens(model=MODEL, messages=ask(QUESTION)["messages"]).input_tokens > 10


@check("errors are the client's own")
def _():
    create = client.messages.create
    expect_error(anthropic.NotFoundError, MODEL, lambda: create(**ask(QUESTION) | {"model": "claude"}))
    expect_error(anthropic.BadRequestError, "context holds 1024", lambda: create(**ask(TOO_LONG)))
    stranger = anthropic.Anthropic(base_url=URL, api_key="wrong", max_retries=0)
    expect_error(anthropic.AuthenticationError, "API key", lambda: stranger.messages.create(**ask(QUESTION)))


@check("a stream that is left early gives its slot back")
def _():
    with client.messages.stream(**ask("Tell a long story.", max_tokens=900)) as stream:
        next(iter(stream.text_stream))
    expect_idle()


run()
