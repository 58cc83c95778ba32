import { afterAll, describe, expect, test } from 'vitest';
import { call, makeTestServer } from '../testing.ts';

const { app } = makeTestServer();
afterAll(() => app.close());
const messages = [{ role: 'user', content: 'Grüße 🦙!' }];
const chat = (body: Record<string, unknown>) =>
  call(app, 'POST', '/v1/chat/completions', { model: 'chat', messages, ...body });

describe('chat completions', () => {
  test('a whole answer', async () => {
    expect(await chat({})).toMatchInlineSnapshot(`
      {
        "body": {
          "choices": [
            {
              "finish_reason": "stop",
              "index": 0,
              "logprobs": null,
              "message": {
                "content": "You said: Grüße 🦙!",
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
            "completion_tokens": 23,
            "prompt_tokens": 17,
            "prompt_tokens_details": {
              "cached_tokens": 0,
            },
            "total_tokens": 40,
          },
        },
        "status": 200,
        "type": "application/json; charset=utf-8",
      }
    `);
  });

  test('a stream with usage: role first, characters whole, [DONE] last', async () => {
    expect(
      await chat({ stream: true, stream_options: { include_usage: true }, max_tokens: 20 }),
    ).toMatchInlineSnapshot(`
      {
        "body": "data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"Y"},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"o"},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"u"},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":" "},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"s"},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"a"},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"i"},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"d"},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":":"},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":" "},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"G"},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"r"},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"ü"},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"ß"},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"e"},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":" "},"logprobs":null,"finish_reason":null}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}],"usage":null}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[],"usage":{"prompt_tokens":17,"completion_tokens":20,"total_tokens":37,"prompt_tokens_details":{"cached_tokens":0}}}

      data: [DONE]

      ",
        "status": 200,
        "type": "text/event-stream; charset=utf-8",
      }
    `);
  });

  test('a stream without usage', async () => {
    const { body } = await chat({ stream: true, max_completion_tokens: 3 });
    expect(body).toMatchInlineSnapshot(`
      "data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"Y"},"logprobs":null,"finish_reason":null}]}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"o"},"logprobs":null,"finish_reason":null}]}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"u"},"logprobs":null,"finish_reason":null}]}

      data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]}

      data: [DONE]

      "
    `);
  });

  test('a stop text ends the answer and does not appear, across tokens and in streams', async () => {
    const whole = await chat({ stop: ['id: Gr', 'nothing'] });
    expect(whole.body).toMatchObject({ choices: [{ message: { content: 'You sa' }, finish_reason: 'stop' }] });
    const { body } = await chat({ stop: 'id: Gr', stream: true });
    const contents = [...String(body).matchAll(/"delta":(\{.*?\}),"logprobs"/g)].map((match) => match[1]);
    expect(contents.join(' ')).toMatchInlineSnapshot(
      `"{"role":"assistant","content":""} {"content":"Y"} {"content":"o"} {"content":"u"} {"content":" "} {"content":"s"} {"content":"a"} {}"`,
    );
  });

  test('content parts, developer messages, null settings and unknown properties are taken', async () => {
    const { status, body } = await chat({
      messages: [
        { role: 'developer', content: 'Be brief.' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'a' },
            { type: 'text', text: 'b' },
          ],
        },
      ],
      temperature: null,
      tools: [],
      n: 1,
      response_format: { type: 'text' },
      user: 'somebody',
      made_up_next_year: true,
    });
    expect([status, (body as { choices: { message: unknown }[] }).choices[0]?.message]).toEqual([
      200,
      { role: 'assistant', content: 'You said: ab', refusal: null },
    ]);
  });

  test('a model is found by each of its names, with and without :latest', async () => {
    const statuses = await Promise.all(
      ['chat', 'chat:latest', 'phi4:mini', 'phi4', 'Chat'].map(async (model) => (await chat({ model })).status),
    );
    expect(statuses).toEqual([200, 200, 200, 404, 404]);
  });
});

describe('bad requests', () => {
  const cases: [string, Record<string, unknown>, string][] = [
    ['no messages', { messages: undefined }, 'messages is required'],
    ['no message', { messages: [] }, 'messages must be a list of at least one message'],
    ['no role', { messages: [{ content: 'a' }] }, 'messages[0].role is required'],
    [
      'an unknown role',
      { messages: [{ role: 'robot', content: 'a' }] },
      'messages[0].role must be system, developer, user, assistant or tool',
    ],
    ['no content', { messages: [{ role: 'user' }] }, 'messages[0].content must be a text'],
    ['a hot temperature', { temperature: 3 }, 'temperature must be a number from 0 to 2'],
    ['a temperature in words', { temperature: 'hot' }, 'temperature must be a number from 0 to 2'],
    ['no tokens', { max_tokens: 0 }, 'max_tokens must be a whole number of at least 1'],
    [
      'an empty stop text',
      { stop: ['a', ''] },
      'stop must be a text or a list of up to 16 texts, of 1 to 1024 characters',
    ],
    ['a stream in words', { stream: 'yes' }, 'stream must be true or false'],
    ['no tool', { tools: [{ type: 'function' }] }, 'tools[0].function is required'],
    [
      'tools that the template would drop',
      { tools: [{ type: 'function', function: { name: 'time' } }] },
      "this model does not support tools, because its chat template has no place for them: leave tools out, or set tool_choice to 'required' where the API has it",
    ],
    [
      'a call without tools',
      { tool_choice: 'required' },
      'tool_choice asks for a call, and there are no tools: add tools or leave tool_choice out',
    ],
    [
      'a call of another tool',
      {
        tools: [{ type: 'function', function: { name: 'time' } }],
        tool_choice: { type: 'function', function: { name: 'day' } },
      },
      'tool_choice names "day", which is not among the tools',
    ],
    ['effort', { reasoning_effort: 'high' }, 'this model does not support thinking: leave think out'],
    [
      'images',
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] },
      'this model reads text only: messages[0].content[0] has the type "image_url"',
    ],
    [
      'a format without a schema',
      { response_format: { type: 'json_schema' } },
      'response_format.json_schema.schema is required',
    ],
    [
      'an unknown format',
      { response_format: { type: 'xml' } },
      'response_format.type must be text, json_object or json_schema',
    ],
    ['alternatives without logprobs', { top_logprobs: 2 }, 'top_logprobs needs logprobs: set it to true'],
    ['a bias for a word', { logit_bias: { hello: 1 } }, 'logit_bias has the key "hello"; keys are ids of tokens'],
    [
      'a prompt that does not fit',
      { messages: [{ role: 'user', content: 'x'.repeat(600) }] },
      "the prompt has 604 tokens and this server's context holds 512: shorten the prompt, or raise " +
        'spec.engine.contextLength of the SLMDeployment',
    ],
  ];
  test.each(cases)('%s', async (_, change, message) => {
    const { status, body } = await chat(change);
    expect([status, (body as { error: { message: string } }).error.message]).toEqual([400, message]);
  });

  test('errors have the shape that the official clients read', async () => {
    expect([await chat({ model: 'gpt-4o' }), await chat({ top_p: 2 })]).toMatchInlineSnapshot(`
      [
        {
          "body": {
            "error": {
              "code": "model_not_found",
              "message": "model 'gpt-4o' not found: this server has chat, phi4:mini",
              "param": "model",
              "type": "invalid_request_error",
            },
          },
          "status": 404,
          "type": "application/json; charset=utf-8",
        },
        {
          "body": {
            "error": {
              "code": "invalid_value",
              "message": "top_p must be a number from 0 to 1",
              "param": "top_p",
              "type": "invalid_request_error",
            },
          },
          "status": 400,
          "type": "application/json; charset=utf-8",
        },
      ]
    `);
  });

  test('a body that is no JSON, or no object', async () => {
    const bodies = await Promise.all(
      ['{"model":', '[]', '"text"', ''].map(async (body) => {
        const answer = await call(app, 'POST', '/v1/chat/completions', body);
        return [answer.status, (answer.body as { error: { message: string } }).error.message];
      }),
    );
    expect(bodies).toEqual([
      [400, 'the request body is not valid JSON'],
      [400, 'the request body must be a JSON object'],
      [400, 'the request body must be a JSON object'],
      [400, 'the request body is not valid JSON'],
    ]);
  });
});

test('completions take a text as it is', async () => {
  const body = { model: 'chat', prompt: 'abc', max_tokens: 4 };
  expect([
    (await call(app, 'POST', '/v1/completions', body)).body,
    (await call(app, 'POST', '/v1/completions', { ...body, stream: true })).body,
  ]).toMatchInlineSnapshot(`
    [
      {
        "choices": [
          {
            "finish_reason": "length",
            "index": 0,
            "logprobs": null,
            "text": "efgh",
          },
        ],
        "created": 1795392000,
        "id": "cmpl-ID",
        "model": "chat",
        "object": "text_completion",
        "usage": {
          "completion_tokens": 4,
          "prompt_tokens": 4,
          "prompt_tokens_details": {
            "cached_tokens": 1,
          },
          "total_tokens": 8,
        },
      },
      "data: {"id":"cmpl-ID","object":"text_completion","created":1795392000,"model":"chat","choices":[{"index":0,"text":"e","logprobs":null,"finish_reason":null}]}

    data: {"id":"cmpl-ID","object":"text_completion","created":1795392000,"model":"chat","choices":[{"index":0,"text":"f","logprobs":null,"finish_reason":null}]}

    data: {"id":"cmpl-ID","object":"text_completion","created":1795392000,"model":"chat","choices":[{"index":0,"text":"g","logprobs":null,"finish_reason":null}]}

    data: {"id":"cmpl-ID","object":"text_completion","created":1795392000,"model":"chat","choices":[{"index":0,"text":"h","logprobs":null,"finish_reason":null}]}

    data: {"id":"cmpl-ID","object":"text_completion","created":1795392000,"model":"chat","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"length"}]}

    data: [DONE]

    ",
    ]
  `);
});

test('the list of models and each one', async () => {
  expect([
    (await call(app, 'GET', '/v1/models')).body,
    (await call(app, 'GET', '/v1/models/phi4:mini')).body,
    (await call(app, 'GET', '/v1/models/other')).status,
  ]).toMatchInlineSnapshot(`
    [
      {
        "data": [
          {
            "created": 1795305600,
            "id": "chat",
            "object": "model",
            "owned_by": "slm-operator",
          },
          {
            "created": 1795305600,
            "id": "phi4:mini",
            "object": "model",
            "owned_by": "slm-operator",
          },
        ],
        "object": "list",
      },
      {
        "created": 1795305600,
        "id": "phi4:mini",
        "object": "model",
        "owned_by": "slm-operator",
      },
      404,
    ]
  `);
});

test('what is not there says so', async () => {
  const { status, body } = await call(app, 'POST', '/v1/moderations', {});
  expect([status, (body as { error: { message: string } }).error.message]).toEqual([
    404,
    'there is no POST /v1/moderations here',
  ]);
});
