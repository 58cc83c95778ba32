import { afterAll, describe, expect, test } from 'vitest';
import { call, makeTestServer } from '../testing.ts';
import { humanNumber } from './replies.ts';

const { app } = makeTestServer();
afterAll(() => app.close());
const messages = [{ role: 'user', content: 'Hé!' }];
const chat = (body: Record<string, unknown>) => call(app, 'POST', '/api/chat', { model: 'chat', messages, ...body });
const generate = (body: Record<string, unknown>) =>
  call(app, 'POST', '/api/generate', { model: 'chat', prompt: 'Hé!', ...body });

describe('chat', () => {
  test('streams by default, one object a line, counters in the last', async () => {
    expect(await chat({ options: { num_predict: 5 } })).toMatchInlineSnapshot(`
      {
        "body": "{"model":"chat","created_at":"2026-11-23T00:00:00.000Z","message":{"role":"assistant","content":"Y"},"done":false}
      {"model":"chat","created_at":"2026-11-23T00:00:00.000Z","message":{"role":"assistant","content":"o"},"done":false}
      {"model":"chat","created_at":"2026-11-23T00:00:00.000Z","message":{"role":"assistant","content":"u"},"done":false}
      {"model":"chat","created_at":"2026-11-23T00:00:00.000Z","message":{"role":"assistant","content":" "},"done":false}
      {"model":"chat","created_at":"2026-11-23T00:00:00.000Z","message":{"role":"assistant","content":"s"},"done":false}
      {"model":"chat","created_at":"2026-11-23T00:00:00.000Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"length","total_duration":1,"load_duration":1,"prompt_eval_count":8,"prompt_eval_duration":1,"eval_count":5,"eval_duration":1}
      ",
        "status": 200,
        "type": "application/x-ndjson",
      }
    `);
  });

  test('a whole answer', async () => {
    expect(await chat({ stream: false })).toMatchInlineSnapshot(`
      {
        "body": {
          "created_at": "2026-11-23T00:00:00.000Z",
          "done": true,
          "done_reason": "stop",
          "eval_count": 14,
          "eval_duration": 1,
          "load_duration": 1,
          "message": {
            "content": "You said: Hé!",
            "role": "assistant",
          },
          "model": "chat",
          "prompt_eval_count": 8,
          "prompt_eval_duration": 1,
          "total_duration": 1,
        },
        "status": 200,
        "type": "application/json; charset=utf-8",
      }
    `);
  });

  test('without messages it reports that the model is loaded', async () => {
    expect((await chat({ messages: [], keep_alive: '5m' })).body).toMatchInlineSnapshot(`
      {
        "created_at": "2026-11-23T00:00:00.000Z",
        "done": true,
        "done_reason": "load",
        "message": {
          "content": "",
          "role": "assistant",
        },
        "model": "chat",
      }
    `);
  });
});

describe('generate', () => {
  test('a whole answer brings its context, from which the next goes on', async () => {
    const first = await generate({ stream: false });
    expect(first).toMatchInlineSnapshot(`
      {
        "body": {
          "context": [
            257,
            259,
            72,
            195,
            169,
            33,
            256,
            260,
            89,
            111,
            117,
            32,
            115,
            97,
            105,
            100,
            58,
            32,
            72,
            195,
            169,
            33,
          ],
          "created_at": "2026-11-23T00:00:00.000Z",
          "done": true,
          "done_reason": "stop",
          "eval_count": 14,
          "eval_duration": 1,
          "load_duration": 1,
          "model": "chat",
          "prompt_eval_count": 8,
          "prompt_eval_duration": 1,
          "response": "You said: Hé!",
          "total_duration": 1,
        },
        "status": 200,
        "type": "application/json; charset=utf-8",
      }
    `);
    const { context } = first.body as { context: number[] };
    const second = await generate({ stream: false, context, prompt: 'And?' });
    expect(second.body).toMatchObject({ response: 'You said: And?' });
    expect((second.body as { context: number[] }).context.slice(0, context.length)).toEqual(context);
  });

  test('streams by default', async () => {
    expect((await generate({ options: { num_predict: 2 } })).body).toMatchInlineSnapshot(`
      "{"model":"chat","created_at":"2026-11-23T00:00:00.000Z","response":"Y","done":false}
      {"model":"chat","created_at":"2026-11-23T00:00:00.000Z","response":"o","done":false}
      {"model":"chat","created_at":"2026-11-23T00:00:00.000Z","response":"","done":true,"done_reason":"length","context":[257,259,72,195,169,33,256,260,89,111],"total_duration":1,"load_duration":1,"prompt_eval_count":8,"prompt_eval_duration":1,"eval_count":2,"eval_duration":1}
      "
    `);
  });

  test('a system text goes before the prompt', async () => {
    expect((await generate({ stream: false, system: 'Be brief.' })).body).toMatchObject({ prompt_eval_count: 19 });
  });

  test('raw takes the prompt as it is', async () => {
    const { body } = await generate({ stream: false, raw: true, prompt: 'abc', options: { num_predict: 3 } });
    expect(body).toMatchObject({ response: 'efg', prompt_eval_count: 4, done_reason: 'length' });
    expect(body).not.toHaveProperty('context');
  });

  test('the documented curl call sends no JSON content type', async () => {
    const payload = '{"model":"chat","prompt":"a","stream":false}';
    const answer = await call(app, 'POST', '/api/generate', payload, {
      'content-type': 'application/x-www-form-urlencoded',
    });
    expect(answer.body).toMatchObject({ response: 'You said: a' });
  });

  test('loading and unloading are answered as Ollama does; the one model stays', async () => {
    const reasons = await Promise.all(
      [undefined, '5m', -1, '0', 0, '0s', '0h0m'].map(
        async (keep_alive) =>
          ((await generate({ prompt: undefined, keep_alive })).body as { done_reason: string }).done_reason,
      ),
    );
    expect(reasons).toEqual(['load', 'load', 'load', 'unload', 'unload', 'unload', 'unload']);
    expect((await generate({ prompt: 'a', keep_alive: 0, stream: false })).status).toBe(200);
  });
});

describe('bad requests', () => {
  const cases: [string, Record<string, unknown>, number, string][] = [
    ['no model', { model: undefined }, 400, 'model is required'],
    ['an unknown model', { model: 'llama9' }, 404, "model 'llama9' not found: this server has chat, phi4:mini"],
    [
      'a misspelt option',
      { options: { temprature: 1 } },
      400,
      'options.temprature is not an option: check its spelling',
    ],
    ['an option out of range', { options: { top_p: 2 } }, 400, 'options.top_p must be a number from 0 to 1'],
    [
      'a larger context',
      { options: { num_ctx: 8192 } },
      400,
      "options.num_ctx is 8192 and this server's context holds 512: lower it, or raise spec.engine.contextLength of the SLMDeployment",
    ],
    [
      'threads of its own',
      { options: { num_thread: 8 } },
      400,
      'options.num_thread cannot be 8: the SLMDeployment sets it (spec.engine.threads); leave it out',
    ],
    [
      'mirostat',
      { options: { mirostat: 2 } },
      400,
      'options.mirostat cannot be 2: mirostat is not supported; leave it out',
    ],
    [
      'nothing to predict',
      { options: { num_predict: 0 } },
      400,
      'options.num_predict must be at least 1, or -1 for as many as fit',
    ],
    ['no tool', { tools: [{}] }, 400, 'tools[0].function is required'],
    [
      'tools that the template would drop',
      { tools: [{ type: 'function', function: { name: 'time' } }] },
      400,
      "this model does not support tools, because its chat template has no place for them: leave tools out, or set tool_choice to 'required' where the API has it",
    ],
    ['a format in words', { format: 'yaml' }, 400, 'format must be "json" or a JSON schema'],
    ['thinking', { think: true }, 400, 'this model does not support thinking: leave think out'],
    ['alternatives without logprobs', { top_logprobs: 2 }, 400, 'top_logprobs needs logprobs: set it to true'],
    [
      'images',
      { messages: [{ role: 'user', content: 'a', images: ['x'] }] },
      400,
      'chat reads text only: leave images out',
    ],
    ['no role', { messages: [{ content: 'a' }] }, 400, 'messages[0].role is required'],
    [
      'a duration in words',
      { keep_alive: 'long' },
      400,
      'keep_alive must be a number of seconds or a duration such as "5m"',
    ],
    [
      'a prompt that does not fit and is not to be cut',
      { messages: [{ role: 'user', content: 'x'.repeat(600) }], truncate: false },
      400,
      "the prompt has 604 tokens and this server's context holds 512: shorten the prompt, or raise " +
        'spec.engine.contextLength of the SLMDeployment',
    ],
  ];
  test.each(cases)('%s', async (_, change, status, error) => {
    const answer = await chat(change);
    expect([answer.status, answer.body]).toEqual([status, { error }]);
  });

  test('options that ask for what happens anyway are taken', async () => {
    const options = { num_gpu: 0, mirostat: 0, typical_p: 1, use_mmap: true, num_ctx: 512, num_keep: 5, seed: -1 };
    expect((await chat({ options, think: false, stream: false, format: '' })).status).toBe(200);
  });

  test('layers on a GPU are as they were loaded, or as many as there are', async () => {
    const device = { class: 'gpu', backend: 'CUDA', name: 'NVIDIA L4', layers: 31 } as const;
    const asked = async (layersOffloaded: number, num_gpu: number) => {
      const { app } = makeTestServer({ device: { ...device, layersOffloaded } });
      const answer = await call(app, 'POST', '/api/generate', {
        model: 'chat',
        prompt: 'a',
        stream: false,
        options: { num_gpu },
      });
      await app.close();
      return answer.status === 200 || (answer.body as { error: string }).error;
    };
    expect([await asked(31, -1), await asked(31, 99), await asked(31, 31), await asked(10, 10)]).toEqual([
      true,
      true,
      true,
      true,
    ]);
    expect([await asked(31, 0), await asked(10, 99)]).toEqual([
      'options.num_gpu cannot be 0: the SLMDeployment sets it (spec.engine.gpuLayers); leave it out',
      'options.num_gpu cannot be 99: the SLMDeployment sets it (spec.engine.gpuLayers); leave it out',
    ]);
  });

  test('how much of a model is on the GPU, as Ollama’s clients work it out', async () => {
    const device = { class: 'gpu', backend: 'CUDA', name: 'NVIDIA L4', layers: 31 } as const;
    const sizes = async (layersOffloaded: number) => {
      const memory = { total: 1000, device: 900 };
      const { app } = makeTestServer({ device: { ...device, layersOffloaded }, memory });
      const { models } = (await call(app, 'GET', '/api/ps')).body as { models: Record<string, number>[] };
      await app.close();
      return [models[0]?.['size'], models[0]?.['size_vram']];
    };
    // The table of tokens stays in the computer's memory, and `ollama ps` is to say 100 % GPU.
    expect([await sizes(31), await sizes(20)]).toEqual([
      [1000, 1000],
      [1000, 900],
    ]);
  });

  test('generate refuses what it cannot do', async () => {
    const answers = await Promise.all(
      [
        { suffix: 'x' },
        { images: ['x'] },
        { template: '{{ x }}' },
        { raw: true, system: 'x' },
        { context: [99_999] },
      ].map(async (change) => (await generate(change)).body),
    );
    expect(answers).toMatchInlineSnapshot(`
      [
        {
          "error": "this model does not support insert: leave suffix out",
        },
        {
          "error": "chat reads text only: leave images out",
        },
        {
          "error": "template cannot be used: the function x is not defined",
        },
        {
          "error": "raw takes the prompt as it is: leave system, template and context out, or raw",
        },
        {
          "error": "context must be the list of tokens that this model gave",
        },
      ]
    `);
  });
});

test('what the model list, the running models and the details say', async () => {
  expect([
    (await call(app, 'GET', '/api/tags')).body,
    (await call(app, 'GET', '/api/ps')).body,
    (await call(app, 'POST', '/api/show', { model: 'chat' })).body,
    (await call(app, 'POST', '/api/show', { name: 'phi4:mini:latest' })).status,
    (await call(app, 'POST', '/api/show', {})).body,
  ]).toMatchInlineSnapshot(`
    [
      {
        "models": [
          {
            "details": {
              "families": [
                "fake",
              ],
              "family": "fake",
              "format": "gguf",
              "parameter_size": "135M",
              "parent_model": "",
              "quantization_level": "Q4_1",
            },
            "digest": "abababababababababababababababababababababababababababababababab",
            "model": "chat:latest",
            "modified_at": "2026-11-22T00:00:00.000Z",
            "name": "chat:latest",
            "size": 1000,
          },
          {
            "details": {
              "families": [
                "fake",
              ],
              "family": "fake",
              "format": "gguf",
              "parameter_size": "135M",
              "parent_model": "",
              "quantization_level": "Q4_1",
            },
            "digest": "abababababababababababababababababababababababababababababababab",
            "model": "phi4:mini",
            "modified_at": "2026-11-22T00:00:00.000Z",
            "name": "phi4:mini",
            "size": 1000,
          },
        ],
      },
      {
        "models": [
          {
            "context_length": 512,
            "details": {
              "families": [
                "fake",
              ],
              "family": "fake",
              "format": "gguf",
              "parameter_size": "135M",
              "parent_model": "",
              "quantization_level": "Q4_1",
            },
            "digest": "abababababababababababababababababababababababababababababababab",
            "expires_at": "2318-01-01T00:00:00Z",
            "model": "chat:latest",
            "name": "chat:latest",
            "size": 1000,
            "size_vram": 0,
          },
        ],
      },
      {
        "capabilities": [
          "completion",
          "embedding",
        ],
        "details": {
          "families": [
            "fake",
          ],
          "family": "fake",
          "format": "gguf",
          "parameter_size": "135M",
          "parent_model": "",
          "quantization_level": "Q4_1",
        },
        "model_info": {
          "fake.context_length": 8192,
          "fake.embedding_length": 64,
          "fake.vocab_size": 261,
          "general.architecture": "fake",
          "general.parameter_count": 135000000,
        },
        "modelfile": "# Modelfile of chat; to make another of it, write instead of FROM:
    # FROM chat

    FROM chat
    ",
        "modified_at": "2026-11-22T00:00:00.000Z",
        "template": "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
      },
      200,
      {
        "error": "model is required",
      },
    ]
  `);
});

test('the heartbeat and the version', async () => {
  expect([
    await call(app, 'GET', '/'),
    (await call(app, 'HEAD', '/')).status,
    (await call(app, 'GET', '/api/version')).body,
  ]).toMatchInlineSnapshot(`
    [
      {
        "body": "Ollama is running",
        "status": 200,
        "type": "text/plain; charset=utf-8",
      },
      200,
      {
        "version": "0.1.0",
      },
    ]
  `);
});

test('management is refused with the reason', async () => {
  const answers = await Promise.all(
    (['pull', 'push', 'create', 'copy'] as const).map((verb) => call(app, 'POST', `/api/${verb}`, { model: 'x' })),
  );
  answers.push(await call(app, 'DELETE', '/api/delete', { model: 'x' }));
  expect(answers.map((answer) => answer.status)).toEqual([403, 403, 403, 403, 403]);
  expect(answers[0]?.body).toMatchInlineSnapshot(`
    {
      "error": "models are managed by the cluster, not through this API: change the SLMModel or SLMDeployment instead",
    }
  `);
});

test('numbers of parameters as Ollama writes them', () => {
  expect([134_515_008, 8e9, 1_540_000_000, 22_700_000, 5000].map(humanNumber)).toEqual([
    '134.52M',
    '8B',
    '1.5B',
    '22.70M',
    '5K',
  ]);
});
