/** Embeddings, in each API's own words. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { call, makeTestServer } from './testing.ts';
import { type ChatServer, makeChatServer } from './testing-chat.ts';

let server: ChatServer;
beforeEach(() => {
  server = makeChatServer();
});
afterEach(() => server.app.close());
const post = (url: string, body: Record<string, unknown>) => server.post(url, body);

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
