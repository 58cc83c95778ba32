/** Ollama's chat and generate: tools, formats, thoughts, log probabilities. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { asking, type ChatServer, makeChatServer, say, tools } from '../testing-chat.ts';

let server: ChatServer;
beforeEach(() => {
  server = makeChatServer();
});
afterEach(() => server.app.close());
const post = (url: string, body: Record<string, unknown>) => server.post(url, body);

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
