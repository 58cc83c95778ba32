/** What the server cannot do, or not now, in OpenAI's words. */
import { expect, test } from 'vitest';
import { call, makeTestServer } from '../testing.ts';

const messages = [{ role: 'user', content: 'Grüße 🦙!' }];

test('a full queue is 429 with Retry-After', async () => {
  const release = Promise.withResolvers<void>();
  const busy = makeTestServer({ parallelRequests: 1, maxQueue: 1, beforeDecode: () => release.promise });
  const send = () =>
    busy.app.inject({ method: 'POST', url: '/v1/chat/completions', payload: { model: 'chat', messages } });
  const first = [send(), send()];
  // Both are in once the engine has one of them in a slot and the other waiting.
  await expect.poll(() => busy.lifecycle.loaded?.engine.stats).toMatchObject({ slotsBusy: 1, queued: 1 });
  const refused = await send();
  release.resolve();
  expect([refused.statusCode, refused.headers['retry-after'], refused.json()]).toMatchInlineSnapshot(`
    [
      429,
      "2",
      {
        "error": {
          "code": "rate_limit_exceeded",
          "message": "the server is busy and its queue is full (1 waiting): try again in about 2 s",
          "param": null,
          "type": "rate_limit_error",
        },
      },
    ]
  `);
  expect((await Promise.all(first)).map((response) => response.statusCode)).toEqual([200, 200]);
  await busy.app.close();
});

test('more answers than could ever wait are no matter of trying again', async () => {
  const small = makeTestServer({ parallelRequests: 1, maxQueue: 2 });
  const ask = (n: number) => call(small.app, 'POST', '/v1/chat/completions', { model: 'chat', messages, n });
  expect(await ask(4)).toMatchObject({
    status: 400,
    body: {
      error: { message: '4 answers in one request, and this server takes 3 at a time: ask for fewer', param: 'n' },
    },
  });
  expect((await ask(3)).status).toBe(200);
  await small.app.close();
});

test('a model without a chat template completes texts and says that it cannot chat', async () => {
  const plain = makeTestServer({ chatTemplate: null });
  const { status, body } = await call(plain.app, 'POST', '/v1/chat/completions', { model: 'chat', messages });
  expect([status, body]).toMatchInlineSnapshot(`
    [
      400,
      {
        "error": {
          "code": "no_chat_template",
          "message": "this model has no chat template: use /api/generate or /v1/completions with the whole prompt",
          "param": null,
          "type": "invalid_request_error",
        },
      },
    ]
  `);
  expect((await call(plain.app, 'POST', '/v1/completions', { model: 'chat', prompt: 'abc' })).status).toBe(200);
  await plain.app.close();
});

test('messages that the template refuses are a 400 with its words', async () => {
  const strict = makeTestServer({ chatTemplate: "{{ raise_exception('roles must alternate') }}" });
  const { status, body } = await call(strict.app, 'POST', '/v1/chat/completions', { model: 'chat', messages });
  expect([status, (body as { error: { message: string } }).error.message]).toEqual([
    400,
    "the model's chat template refuses these messages: roles must alternate",
  ]);
  await strict.app.close();
});

test('an engine that fails is a 500 that gives nothing away, and an error event once the stream has begun', async () => {
  let batches = 0;
  const failing = makeTestServer({
    beforeDecode: () => {
      if (++batches % 4 === 0) throw new Error('secret detail');
    },
  });
  const body = { model: 'chat', messages };
  expect((await call(failing.app, 'POST', '/v1/chat/completions', body)).body).toMatchInlineSnapshot(`
    {
      "error": {
        "code": "internal_error",
        "message": "the server failed to answer; its log says why",
        "param": null,
        "type": "server_error",
      },
    }
  `);
  expect(
    (await call(failing.app, 'POST', '/v1/chat/completions', { ...body, stream: true })).body,
  ).toMatchInlineSnapshot(`
    "data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

    data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"Y"},"logprobs":null,"finish_reason":null}]}

    data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"o"},"logprobs":null,"finish_reason":null}]}

    data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1795392000,"model":"chat","choices":[{"index":0,"delta":{"content":"u"},"logprobs":null,"finish_reason":null}]}

    data: {"error":{"message":"the server failed to answer; its log says why","type":"server_error","param":null,"code":"internal_error"}}

    "
  `);
  await failing.app.close();
});
