/** OpenAI's chat: tools, structured output, several answers, log probabilities. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { call } from '../testing.ts';
import { asking, CALL, type ChatServer, choices, events, makeChatServer, say, tools } from '../testing-chat.ts';

let server: ChatServer;
beforeEach(() => {
  server = makeChatServer();
});
afterEach(() => server.app.close());
const post = (url: string, body: Record<string, unknown>) => server.post(url, body);

describe("OpenAI's chat", () => {
  test('a call of a tool, whole', async () => {
    expect(choices(await post('/v1/chat/completions', { messages: asking, tools }))).toMatchInlineSnapshot(`
      [
        {
          "finish_reason": "tool_calls",
          "index": 0,
          "logprobs": null,
          "message": {
            "content": "You said: ",
            "refusal": null,
            "role": "assistant",
            "tool_calls": [
              {
                "function": {
                  "arguments": "{"city":"Oslo"}",
                  "name": "weather",
                },
                "id": "call_ID",
                "type": "function",
              },
            ],
          },
        },
      ]
    `);
  });

  test('a call of a tool, streamed', async () => {
    const body = await post('/v1/chat/completions', { messages: asking, tools, stream: true });
    expect(events(body).slice(-4)).toMatchInlineSnapshot(`
      [
        {
          "choices": [
            {
              "delta": {
                "content": " ",
              },
              "finish_reason": null,
              "index": 0,
              "logprobs": null,
            },
          ],
        },
        {
          "choices": [
            {
              "delta": {
                "tool_calls": [
                  {
                    "function": {
                      "arguments": "{"city":"Oslo"}",
                      "name": "weather",
                    },
                    "id": "call_ID",
                    "index": 0,
                    "type": "function",
                  },
                ],
              },
              "finish_reason": null,
              "index": 0,
              "logprobs": null,
            },
          ],
        },
        {
          "choices": [
            {
              "delta": {},
              "finish_reason": "tool_calls",
              "index": 0,
              "logprobs": null,
            },
          ],
        },
        "[DONE]",
      ]
    `);
  });

  test('calls and results of tools go back to the model', async () => {
    const body = await post('/v1/chat/completions', {
      messages: [
        ...asking,
        {
          role: 'assistant',
          content: null,
          tool_calls: [{ id: 'call_1', type: 'function', function: { name: 'weather', arguments: '{"city":"Oslo"}' } }],
        },
        { role: 'tool', tool_call_id: 'call_1', content: 'rain' },
      ],
      tools,
    });
    expect(choices(body)).toMatchObject([{ message: { content: 'You said: rain' }, finish_reason: 'stop' }]);
  });

  test('tool_choice none leaves tools alone', async () => {
    const body = await post('/v1/chat/completions', { messages: asking, tools, tool_choice: 'none' });
    expect(choices(body)).toMatchObject([{ message: { content: `You said: ${CALL}` }, finish_reason: 'stop' }]);
  });

  test('structured output', async () => {
    const formats = [
      { type: 'json_object' },
      {
        type: 'json_schema',
        json_schema: {
          name: 'x',
          strict: true,
          schema: { type: 'object', properties: {}, additionalProperties: false },
        },
      },
    ];
    for (const response_format of formats)
      expect(choices(await post('/v1/chat/completions', { messages: say, response_format }))).toMatchObject([
        { message: { content: '{"said":"a"}' } },
      ]);
  });

  test('several answers, whole and streamed, are counted together', async () => {
    const whole = await post('/v1/chat/completions', { messages: say, n: 2, seed: 1 });
    const streamed = await post('/v1/chat/completions', {
      messages: say,
      n: 2,
      max_tokens: 1,
      stream: true,
      stream_options: { include_usage: true },
    });
    const sorted = events(streamed)
      .map((one) => JSON.stringify(one))
      .sort();
    expect([whole, sorted]).toMatchInlineSnapshot(`
      [
        {
          "choices": [
            {
              "finish_reason": "stop",
              "index": 0,
              "logprobs": null,
              "message": {
                "content": "You said: a",
                "refusal": null,
                "role": "assistant",
              },
            },
            {
              "finish_reason": "stop",
              "index": 1,
              "logprobs": null,
              "message": {
                "content": "You said: a",
                "refusal": null,
                "role": "assistant",
              },
            },
          ],
          "created": 1795392000,
          "id": "chatcmpl-ID",
          "model": "chat",
          "object": "chat.completion",
          "usage": {
            "completion_tokens": 22,
            "prompt_tokens": 5,
            "prompt_tokens_details": {
              "cached_tokens": 0,
            },
            "total_tokens": 27,
          },
        },
        [
          ""[DONE]"",
          "{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":4}}}",
          "{"choices":[{"index":0,"delta":{"content":"Y"},"logprobs":null,"finish_reason":null}],"usage":null}",
          "{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}",
          "{"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}],"usage":null}",
          "{"choices":[{"index":1,"delta":{"content":"Y"},"logprobs":null,"finish_reason":null}],"usage":null}",
          "{"choices":[{"index":1,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}",
          "{"choices":[{"index":1,"delta":{},"logprobs":null,"finish_reason":"length"}],"usage":null}",
        ],
      ]
    `);
  });

  test('log probabilities, whole and streamed', async () => {
    const body = { messages: say, logprobs: true, top_logprobs: 1, max_tokens: 1 };
    const streamed = await post('/v1/chat/completions', { ...body, stream: true });
    expect([choices(await post('/v1/chat/completions', body)), events(streamed)[1]]).toMatchInlineSnapshot(`
      [
        [
          {
            "finish_reason": "length",
            "index": 0,
            "logprobs": {
              "content": [
                {
                  "bytes": [
                    89,
                  ],
                  "logprob": -0.6931471805599453,
                  "token": "Y",
                  "top_logprobs": [
                    {
                      "bytes": [
                        89,
                      ],
                      "logprob": -0.6931471805599453,
                      "token": "Y",
                    },
                  ],
                },
              ],
              "refusal": null,
            },
            "message": {
              "content": "Y",
              "refusal": null,
              "role": "assistant",
            },
          },
        ],
        {
          "choices": [
            {
              "delta": {
                "content": "Y",
              },
              "finish_reason": null,
              "index": 0,
              "logprobs": {
                "content": [
                  {
                    "bytes": [
                      89,
                    ],
                    "logprob": -0.6931471805599453,
                    "token": "Y",
                    "top_logprobs": [
                      {
                        "bytes": [
                          89,
                        ],
                        "logprob": -0.6931471805599453,
                        "token": "Y",
                      },
                    ],
                  },
                ],
                "refusal": null,
              },
            },
          ],
        },
      ]
    `);
  });
});

test('a schema that cannot be honoured is a 400 that names the place', async () => {
  const bad = { type: 'object', properties: { a: { $ref: '#/nowhere' } } };
  const answer = await call(server.app, 'POST', '/v1/chat/completions', {
    model: 'chat',
    messages: say,
    response_format: { type: 'json_schema', json_schema: { name: 'x', schema: bad } },
  });
  expect([answer.status, answer.body]).toMatchInlineSnapshot(`
    [
      400,
      {
        "error": {
          "code": "invalid_schema",
          "message": "#/properties/a: $ref "#/nowhere" leads nowhere (at #/properties/a)",
          "param": null,
          "type": "invalid_request_error",
        },
      },
    ]
  `);
});
