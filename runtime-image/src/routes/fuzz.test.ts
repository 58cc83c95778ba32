/**
 * Whatever a client sends, it gets an answer of its own making: never a 500, always in the shape of the API that it called.
 * Requests come out of the API's description, and answers are held to it.
 */
import Ajv from 'ajv';
import addFormats from 'ajv-formats';
import * as fc from 'fast-check';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { type SchemaNode, valuesOf } from './fuzz-arbitraries.ts';
import { makeTestServer } from './testing.ts';

vi.setConfig({ testTimeout: 60_000 });

interface Content {
  readonly schema: object;
}
interface Operation {
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: SchemaNode }>> };
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, Content>> }>>;
}
interface Description {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, object>> };
}

const { app, lifecycle } = makeTestServer({ contextLength: 256, parallelRequests: 2 });
afterAll(() => app.close());
const description = (await app.inject('/openapi.json')).json<Description>();
const operations = Object.entries(description.paths).flatMap(([url, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({
    name: `${method.toUpperCase()} ${url}`,
    url,
    method,
    operation,
  })),
);
const posts = operations.filter(({ operation }) => operation.requestBody !== undefined);

const ajv = addFormats.default(new Ajv.default({ strict: false }));
/** Fails with what is wrong about a value. */
function holds(schema: object, value: unknown): void {
  const validate = ajv.compile({ ...schema, components: description.components });
  expect([validate(value), validate.errors]).toEqual([true, null]);
}

const name = fc.constantFrom('chat', 'phi4:mini', 'chat:latest');
const schema = fc.constantFrom<unknown>(
  { type: 'object', properties: { a: { type: 'number' } }, required: ['a'] },
  { type: 'array', items: { enum: ['x', 1, null] }, maxItems: 3 },
  { $ref: '#/$defs/a', $defs: { a: { anyOf: [{ type: 'string', maxLength: 4 }, { type: 'null' }] } } },
  { type: 'string', pattern: '^(a|b)+$' },
  true,
  {},
);
const meanings = {
  model: name,
  name,
  parameters: schema,
  input_schema: schema,
  schema,
  format: fc.oneof(schema, fc.constant('json')),
  role: fc.constantFrom('user', 'assistant', 'system', 'tool'),
  content: fc.string(),
  type: fc.constantFrom('text', 'function', 'message'),
  messages: fc.array(fc.record({ role: fc.constant('user'), content: fc.string() }), { minLength: 1, maxLength: 3 }),
  prompt: fc.string(),
  input: fc.string({ minLength: 1 }),
  options: fc.constantFrom({ temperature: 0 }, { num_predict: 3, stop: ['e'] }, { top_k: 0 }, { num_keep: -1 }),
  // More answers than there is room for are too many, which is a 429 however idle the server is.
  n: fc.integer({ min: 1, max: 4 }),
  max_tokens: fc.integer({ min: 1, max: 9 }),
  num_predict: fc.integer({ min: 1, max: 9 }),
};

/** Sends a body and checks what comes back, whatever it is. */
async function exchange(url: string, operation: Operation, body: unknown): Promise<number> {
  const sent = JSON.stringify(body);
  const answer = await app.inject({ method: 'POST', url, payload: sent });
  const status = answer.statusCode;
  expect([200, 400, 403, 404, ...(isGreedy(body) ? [429] : [])], `${sent}\n${answer.body}`).toContain(status);
  const type = String(answer.headers['content-type']).split(';')[0] ?? '';
  const content = (operation.responses[status] ?? operation.responses['default'])?.content;
  if (!content) return status;
  expect(Object.keys(content)).toContain(type);
  if (type === 'application/json') holds(content[type]?.schema ?? {}, answer.json());
  else expect(brokenPieces(type, answer.body), sent).toEqual([]);
  return status;
}

/** Whether a body asks for more answers than the queue holds. */
function isGreedy(body: unknown): boolean {
  const { n = 1, prompt } = (body ?? {}) as { n?: number; prompt?: unknown };
  return n * (Array.isArray(prompt) ? prompt.length : 1) > 16;
}

/** @returns the pieces of a stream that are no JSON, and those that tell of an error of the server */
function brokenPieces(type: string, body: string): string[] {
  const pieces =
    type === 'application/x-ndjson'
      ? body.split('\n').slice(0, -1)
      : body
          .split('\n')
          .filter((line) => line.startsWith('data: '))
          .map((line) => line.slice('data: '.length))
          .filter((line) => line !== '[DONE]');
  return pieces.filter((piece) => {
    try {
      return /"(internal_error|api_error)"/.test(JSON.stringify(JSON.parse(piece)));
    } catch {
      return true;
    }
  });
}

describe('requests out of the description', () => {
  test.each(posts)('$name', async ({ url, operation }) => {
    const allowed = operation.requestBody?.content['application/json']?.schema ?? {};
    const statuses = new Map<number, number>();
    for (const faults of [0, 0.05, 0.3])
      await fc.assert(
        fc.asyncProperty(valuesOf(allowed, meanings, faults), async (body) => {
          const status = await exchange(url, operation, body);
          statuses.set(status, (statuses.get(status) ?? 0) + 1);
        }),
        { numRuns: 150 },
      );
    // A fuzz that is always turned away at the door tests the door alone.
    expect(statuses.get(200) ?? 0).toBeGreaterThan(5);
    expect(lifecycle.loaded?.engine.stats).toMatchObject({ slotsBusy: 0, queued: 0 });
  });
});

test.each(operations.filter(({ method, url }) => method === 'get' && !url.includes('{')))(
  '$name answers as described',
  async ({ url, operation }) => {
    const answer = await app.inject(url);
    expect(answer.statusCode).toBe(200);
    const content = operation.responses['200']?.content;
    const type = String(answer.headers['content-type']).split(';')[0] ?? '';
    if (content) expect(Object.keys(content)).toEqual([type]);
    if (content && type === 'application/json') holds(content[type]?.schema ?? {}, answer.json());
  },
);

describe('bodies that are none', () => {
  const refused = async (url: string, payload: Buffer | string) => {
    const answer = await app.inject({ method: 'POST', url, payload });
    const operation = posts.find((one) => one.url === url)?.operation;
    holds(operation?.responses['default']?.content?.['application/json']?.schema ?? {}, answer.json());
    return answer.statusCode;
  };
  const urls = posts.map(({ url }) => url);

  test('any bytes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...urls), fc.uint8Array({ maxLength: 200 }), async (url, bytes) => {
        expect(await refused(url, Buffer.from(bytes))).toBe(400);
      }),
      { numRuns: 150 },
    );
  });

  test.each(urls)('%s: deep, large, cut off, in another encoding', async (url) => {
    const deep = '['.repeat(100_000) + ']'.repeat(100_000);
    const nested = `{"model":"chat","options":${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}}`;
    const cut = '{"model":"chat","prompt":"a';
    const latin = Buffer.from('{"model":"chat","prompt":"caf\u00e9"}', 'latin1');
    const utf16 = Buffer.from('\ufeff{"model":"chat"}', 'utf16le');
    for (const body of [deep, cut, latin, utf16, '', ' ', '"', 'null', '[]', '{"a":1}{}'])
      expect([await refused(url, body), body.slice(0, 20)]).toEqual([400, body.slice(0, 20)]);
    expect(await refused(url, `"${'x'.repeat(5_000_000)}"`)).toBe(413);
    const answer = await app.inject({ method: 'POST', url, payload: nested });
    expect(answer.statusCode).toBeLessThan(500);
  });
});
