/** Tools, structured output, log probabilities, several answers and embeddings, in each API's own words. */
import type { FastifyInstance } from 'fastify';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { call, makeTestServer } from './testing.ts';

/** Names tools and thinking, so that the server knows the model knows them; the fake answers with the last message. */
const TEMPLATE =
  '{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif %}{# enable_thinking #}' +
  '{% for message in messages %}<|{{ message.role if message.role != "tool" else "user" }}|>{{ message.content }}<|end|>{% endfor %}' +
  '{% if add_generation_prompt %}<|assistant|>{% endif %}';

// One for each test: what an earlier test left in the cache shows in the counts.
let app: FastifyInstance;
beforeEach(() => {
  ({ app } = makeTestServer({ chatTemplate: TEMPLATE, contextLength: 2048 }));
});
afterEach(() => app.close());
const post = async (url: string, body: Record<string, unknown>) =>
  (await call(app, 'POST', url, { model: 'chat', ...body })).body;

const parameters = { type: 'object', properties: { city: { type: 'string' } } };
const tools = [{ type: 'function', function: { name: 'weather', parameters } }];
const CALL = '<tool_call>{"name":"weather","arguments":{"city":"Oslo"}}</tool_call>';
const asking = [{ role: 'user', content: CALL }];
const thought = [{ role: 'user', content: 'a</think>b' }];
const say = [{ role: 'user', content: 'a' }];

/** The data of server-sent events, without what every one of them repeats. */
function events(body: unknown): unknown[] {
  return [...String(body).matchAll(/^data: (.*)$/gm)].map(([, data = '']) => {
    if (data === '[DONE]') return data;
    const {
      id: _id,
      object: _object,
      created: _created,
      model: _model,
      ...rest
    } = JSON.parse(data) as Record<string, unknown>;
    return rest;
  });
}

/** What became of each choice. */
function choices(body: unknown): unknown {
  return (body as { choices: unknown }).choices;
}

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

test("OpenAI's completions: several texts, echoes, log probabilities", async () => {
  expect([
    choices(await post('/v1/completions', { prompt: ['abc', 'abcd'], max_tokens: 2, echo: true })),
    choices(await post('/v1/completions', { prompt: [97, 98], max_tokens: 2, logprobs: 1 })),
    await post('/v1/completions', { prompt: 'a', suffix: 'b' }),
  ]).toMatchInlineSnapshot(`
    [
      [
        {
          "finish_reason": "length",
          "index": 0,
          "logprobs": null,
          "text": "abcef",
        },
        {
          "finish_reason": "length",
          "index": 1,
          "logprobs": null,
          "text": "abcdfg",
        },
      ],
      [
        {
          "finish_reason": "length",
          "index": 0,
          "logprobs": {
            "text_offset": [
              0,
              1,
            ],
            "token_logprobs": [
              -0.6931471805599453,
              -0.6931471805599453,
            ],
            "tokens": [
              "c",
              "d",
            ],
            "top_logprobs": [
              {
                "c": -0.6931471805599453,
              },
              {
                "d": -0.6931471805599453,
              },
            ],
          },
          "text": "cd",
        },
      ],
      {
        "error": {
          "code": "unsupported_parameter",
          "message": "this model does not support insert: leave suffix out",
          "param": "suffix",
          "type": "invalid_request_error",
        },
      },
    ]
  `);
});

describe("OpenAI's responses", () => {
  test('a text, whole', async () => {
    expect(await post('/v1/responses', { input: 'Hi', instructions: 'Be brief.' })).toMatchInlineSnapshot(`
      {
        "created_at": 1795392000,
        "error": null,
        "id": "resp_ID",
        "incomplete_details": null,
        "instructions": "Be brief.",
        "max_output_tokens": null,
        "metadata": {},
        "model": "chat",
        "object": "response",
        "output": [
          {
            "content": [
              {
                "annotations": [],
                "logprobs": [],
                "text": "You said: Hi",
                "type": "output_text",
              },
            ],
            "id": "msg_ID",
            "role": "assistant",
            "status": "completed",
            "type": "message",
          },
        ],
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {
          "effort": null,
          "summary": null,
        },
        "status": "completed",
        "store": false,
        "temperature": 1,
        "text": {
          "format": {
            "type": "text",
          },
        },
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1,
        "truncation": "disabled",
        "usage": {
          "input_tokens": 17,
          "input_tokens_details": {
            "cached_tokens": 0,
          },
          "output_tokens": 12,
          "output_tokens_details": {
            "reasoning_tokens": 0,
          },
          "total_tokens": 29,
        },
      }
    `);
  });

  test('a text, streamed', async () => {
    const body = await post('/v1/responses', { input: say, stream: true, max_output_tokens: 2 });
    const short = events(body).map((one) => {
      const { response, ...rest } = one as { response?: { status: string; output: unknown[] } };
      return response ? { ...rest, response: { status: response.status, output: response.output } } : rest;
    });
    expect(short).toMatchInlineSnapshot(`
      [
        {
          "response": {
            "output": [],
            "status": "in_progress",
          },
          "sequence_number": 0,
          "type": "response.created",
        },
        {
          "response": {
            "output": [],
            "status": "in_progress",
          },
          "sequence_number": 1,
          "type": "response.in_progress",
        },
        {
          "item": {
            "content": [],
            "id": "msg_ID",
            "role": "assistant",
            "status": "in_progress",
            "type": "message",
          },
          "output_index": 0,
          "sequence_number": 2,
          "type": "response.output_item.added",
        },
        {
          "content_index": 0,
          "item_id": "msg_ID",
          "output_index": 0,
          "part": {
            "annotations": [],
            "logprobs": [],
            "text": "",
            "type": "output_text",
          },
          "sequence_number": 3,
          "type": "response.content_part.added",
        },
        {
          "content_index": 0,
          "delta": "Y",
          "item_id": "msg_ID",
          "logprobs": [],
          "output_index": 0,
          "sequence_number": 4,
          "type": "response.output_text.delta",
        },
        {
          "content_index": 0,
          "delta": "o",
          "item_id": "msg_ID",
          "logprobs": [],
          "output_index": 0,
          "sequence_number": 5,
          "type": "response.output_text.delta",
        },
        {
          "content_index": 0,
          "item_id": "msg_ID",
          "logprobs": [],
          "output_index": 0,
          "sequence_number": 6,
          "text": "Yo",
          "type": "response.output_text.done",
        },
        {
          "content_index": 0,
          "item_id": "msg_ID",
          "output_index": 0,
          "part": {
            "annotations": [],
            "logprobs": [],
            "text": "Yo",
            "type": "output_text",
          },
          "sequence_number": 7,
          "type": "response.content_part.done",
        },
        {
          "item": {
            "content": [
              {
                "annotations": [],
                "logprobs": [],
                "text": "Yo",
                "type": "output_text",
              },
            ],
            "id": "msg_ID",
            "role": "assistant",
            "status": "completed",
            "type": "message",
          },
          "output_index": 0,
          "sequence_number": 8,
          "type": "response.output_item.done",
        },
        {
          "response": {
            "output": [
              {
                "content": [
                  {
                    "annotations": [],
                    "logprobs": [],
                    "text": "Yo",
                    "type": "output_text",
                  },
                ],
                "id": "msg_ID",
                "role": "assistant",
                "status": "completed",
                "type": "message",
              },
            ],
            "status": "incomplete",
          },
          "sequence_number": 9,
          "type": "response.incomplete",
        },
      ]
    `);
  });

  test('calls of tools and their results', async () => {
    const offered = [{ type: 'function', name: 'weather', parameters }];
    const first = (await post('/v1/responses', { input: asking, tools: offered })) as { output: unknown[] };
    const second = (await post('/v1/responses', {
      input: [...asking, ...first.output, { type: 'function_call_output', call_id: 'call_ID', output: 'rain' }],
      tools: offered,
    })) as { output: unknown[] };
    expect([first.output, second.output]).toMatchInlineSnapshot(`
      [
        [
          {
            "content": [
              {
                "annotations": [],
                "logprobs": [],
                "text": "You said: ",
                "type": "output_text",
              },
            ],
            "id": "msg_ID",
            "role": "assistant",
            "status": "completed",
            "type": "message",
          },
          {
            "arguments": "{"city":"Oslo"}",
            "call_id": "call_ID",
            "id": "fc_ID",
            "name": "weather",
            "status": "completed",
            "type": "function_call",
          },
        ],
        [
          {
            "content": [
              {
                "annotations": [],
                "logprobs": [],
                "text": "You said: rain",
                "type": "output_text",
              },
            ],
            "id": "msg_ID",
            "role": "assistant",
            "status": "completed",
            "type": "message",
          },
        ],
      ]
    `);
  });

  test('what needs a memory is refused', async () => {
    expect(await post('/v1/responses', { input: 'a', previous_response_id: 'resp_1' })).toMatchInlineSnapshot(`
      {
        "error": {
          "code": "unsupported_parameter",
          "message": "nothing is stored here: send the whole conversation as input",
          "param": "previous_response_id",
          "type": "invalid_request_error",
        },
      }
    `);
  });
});

describe("Anthropic's messages", () => {
  test('a text, whole', async () => {
    expect(await post('/v1/messages', { messages: say, system: 'Be brief.', max_tokens: 50 })).toMatchInlineSnapshot(`
      {
        "content": [
          {
            "text": "You said: a",
            "type": "text",
          },
        ],
        "id": "msg_ID",
        "model": "chat",
        "role": "assistant",
        "stop_reason": "end_turn",
        "stop_sequence": null,
        "type": "message",
        "usage": {
          "cache_creation_input_tokens": 0,
          "cache_read_input_tokens": 0,
          "input_tokens": 16,
          "output_tokens": 11,
        },
      }
    `);
  });

  test('a call of a tool, streamed', async () => {
    const body = await post('/v1/messages', {
      messages: asking,
      tools: [{ name: 'weather', input_schema: parameters }],
      max_tokens: 200,
      stream: true,
    });
    expect(body).toMatchInlineSnapshot(`
      "event: message_start
      data: {"type":"message_start","message":{"id":"msg_ID","type":"message","role":"assistant","model":"chat","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":208,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}

      event: content_block_start
      data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Y"}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"o"}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"u"}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" "}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"s"}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"i"}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"d"}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":":"}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" "}}

      event: content_block_stop
      data: {"type":"content_block_stop","index":0}

      event: content_block_start
      data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_ID","name":"weather","input":{}}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\\"city\\":\\"Oslo\\"}"}}

      event: content_block_stop
      data: {"type":"content_block_stop","index":1}

      event: message_delta
      data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":208,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":79}}

      event: message_stop
      data: {"type":"message_stop"}

      "
    `);
  });

  test('results of tools, counted tokens and errors', async () => {
    const messages = [
      ...asking,
      { role: 'assistant', content: [{ type: 'tool_use', id: 'toolu_1', name: 'weather', input: { city: 'Oslo' } }] },
      { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'toolu_1', content: 'rain' }] },
    ];
    expect([
      ((await post('/v1/messages', { messages, max_tokens: 50 })) as { content: unknown }).content,
      await post('/v1/messages/count_tokens', { messages: say }),
      await post('/v1/messages', { messages: say }),
      await post('/v1/messages', { model: 'claude', messages: say, max_tokens: 1 }),
    ]).toMatchInlineSnapshot(`
      [
        [
          {
            "text": "You said: rain",
            "type": "text",
          },
        ],
        {
          "input_tokens": 5,
        },
        {
          "error": {
            "message": "max_tokens is required",
            "type": "invalid_request_error",
          },
          "type": "error",
        },
        {
          "error": {
            "message": "model 'claude' not found: this server has chat, phi4:mini",
            "type": "not_found_error",
          },
          "type": "error",
        },
      ]
    `);
  });
});

describe("Ollama's chat and generate", () => {
  test('a call of a tool, whole and streamed', async () => {
    const whole = (await post('/api/chat', { messages: asking, tools, stream: false })) as { message: unknown };
    const lines = String(await post('/api/chat', { messages: asking, tools }))
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { message: unknown }).message);
    expect([whole.message, lines.slice(-2)]).toMatchInlineSnapshot(`
      [
        {
          "content": "You said: ",
          "role": "assistant",
          "tool_calls": [
            {
              "function": {
                "arguments": {
                  "city": "Oslo",
                },
                "index": 0,
                "name": "weather",
              },
              "id": "call_ID",
            },
          ],
        },
        [
          {
            "content": "",
            "role": "assistant",
            "tool_calls": [
              {
                "function": {
                  "arguments": {
                    "city": "Oslo",
                  },
                  "index": 0,
                  "name": "weather",
                },
                "id": "call_ID",
              },
            ],
          },
          {
            "content": "",
            "role": "assistant",
          },
        ],
      ]
    `);
  });

  test('a format, think, log probabilities', async () => {
    const schema = { type: 'object', properties: { said: { type: 'string' } } };
    const messageOf = async (body: Record<string, unknown>) => {
      const { message, logprobs } = (await post('/api/chat', { stream: false, messages: say, ...body })) as Record<
        string,
        unknown
      >;
      return { message, ...(logprobs === undefined ? {} : { logprobs }) };
    };
    expect([
      await messageOf({ format: 'json' }),
      await messageOf({ format: schema }),
      await messageOf({ think: false }),
      await messageOf({ think: 'high' }),
      await messageOf({ logprobs: true, options: { num_predict: 1 } }),
    ]).toMatchInlineSnapshot(`
      [
        {
          "message": {
            "content": "{"said":"a"}",
            "role": "assistant",
          },
        },
        {
          "message": {
            "content": "{"said":"a"}",
            "role": "assistant",
          },
        },
        {
          "message": {
            "content": "You said: a",
            "role": "assistant",
          },
        },
        {
          "message": {
            "content": "You said: a",
            "role": "assistant",
          },
        },
        {
          "logprobs": [
            {
              "bytes": [
                89,
              ],
              "logprob": -0.6931471805599453,
              "token": "Y",
            },
          ],
          "message": {
            "content": "Y",
            "role": "assistant",
          },
        },
      ]
    `);
    const generated = (await post('/api/generate', { prompt: 'a', format: 'json', stream: false })) as {
      response: string;
    };
    expect(generated.response).toBe('{"said":"a"}');
  });
});

test('a template that ends within a thought', async () => {
  const thinker = makeTestServer({ chatTemplate: `${TEMPLATE}{% if add_generation_prompt %}<think>\n{% endif %}` });
  const ask = async (url: string, body: Record<string, unknown>) =>
    (await call(thinker.app, 'POST', url, { model: 'chat', stream: false, max_tokens: 100, ...body })).body as Record<
      string,
      unknown
    >;
  const [ollama, openai, anthropic] = await Promise.all(
    ['/api/chat', '/v1/chat/completions', '/v1/messages'].map((url) => ask(url, { messages: thought })),
  );
  // The fake counts the template's last words as its own.
  expect([ollama?.['message'], choices(openai), anthropic?.['content']]).toMatchInlineSnapshot(`
    [
      {
        "content": "b",
        "role": "assistant",
        "thinking": ": a",
      },
      [
        {
          "finish_reason": "stop",
          "index": 0,
          "logprobs": null,
          "message": {
            "content": "b",
            "reasoning_content": ": a",
            "refusal": null,
            "role": "assistant",
          },
        },
      ],
      [
        {
          "signature": "",
          "thinking": ": a",
          "type": "thinking",
        },
        {
          "text": "b",
          "type": "text",
        },
      ],
    ]
  `);
  await thinker.app.close();
});

describe('embeddings', () => {
  const shape = (vector: readonly number[]) => [vector.length, Math.round(Math.hypot(...vector) * 1e6) / 1e6];

  test("OpenAI's: floats and base64 are the same numbers, fewer dimensions have length 1", async () => {
    const embed = async (body: Record<string, unknown>) =>
      (await post('/v1/embeddings', { input: ['Hello', 'there'], ...body })) as {
        data: { embedding: number[] | string; index: number }[];
        usage: unknown;
      };
    const floats = await embed({});
    const encoded = await embed({ encoding_format: 'base64' });
    const decoded = encoded.data.map(({ embedding }) => {
      const bytes = Buffer.from(embedding as string, 'base64');
      return Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readFloatLE(index * 4));
    });
    expect(decoded).toEqual(floats.data.map((one) => one.embedding));
    const short = await embed({ dimensions: 8, input: 'Hello' });
    expect([floats.data.map((one) => one.index), floats.usage, shape(short.data[0]?.embedding as number[])]).toEqual([
      [0, 1],
      { prompt_tokens: 12, total_tokens: 12 },
      [8, 1],
    ]);
    expect(await embed({ dimensions: 65 })).toMatchInlineSnapshot(`
      {
        "error": {
          "code": "invalid_value",
          "message": "dimensions is 65 and this model gives 64: lower it",
          "param": "dimensions",
          "type": "invalid_request_error",
        },
      }
    `);
  });

  test("Ollama's: many at length 1, one as it is, none for loading", async () => {
    const many = (await post('/api/embed', { input: ['Hello', 'there'] })) as { embeddings: number[][] };
    const { embeddings, ...rest } = many;
    const one = (await post('/api/embeddings', { prompt: 'Hello' })) as { embedding: number[] };
    expect([embeddings.map(shape), rest, shape(one.embedding)]).toEqual([
      [
        [64, 1],
        [64, 1],
      ],
      { model: 'chat', total_duration: 1, load_duration: 1, prompt_eval_count: 12 },
      [64, expect.closeTo(Math.sqrt(1 + 1 + 1 + 4 + 1), 5)],
    ]);
    expect([await post('/api/embed', { input: [] }), await post('/api/embeddings', {})]).toMatchObject([
      { embeddings: [] },
      { embedding: [] },
    ]);
    const long = 'x'.repeat(3000);
    const answers = [{ input: long }, { input: long, truncate: false }].map((body) => post('/api/embed', body));
    expect(await Promise.all(answers)).toMatchObject([
      { prompt_eval_count: 2048 },
      { error: expect.stringContaining('the prompt has 3001 tokens') },
    ]);
  });

  test('a model that gives none says so', async () => {
    const plain = makeTestServer({ capabilities: { embed: false } });
    const bodies = await Promise.all(
      ['/v1/embeddings', '/api/embed'].map(async (url) => call(plain.app, 'POST', url, { model: 'chat', input: 'a' })),
    );
    expect(bodies.map(({ status, body }) => [status, body])).toMatchInlineSnapshot(`
      [
        [
          400,
          {
            "error": {
              "code": "unsupported_parameter",
              "message": "this model gives no embeddings",
              "param": null,
              "type": "invalid_request_error",
            },
          },
        ],
        [
          400,
          {
            "error": "this model gives no embeddings",
          },
        ],
      ]
    `);
    await plain.app.close();
  });
});

test('a schema that cannot be honoured is a 400 that names the place', async () => {
  const bad = { type: 'object', properties: { a: { $ref: '#/nowhere' } } };
  const answer = await call(app, 'POST', '/v1/chat/completions', {
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
