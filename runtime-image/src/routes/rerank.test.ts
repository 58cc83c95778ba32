import { afterAll, expect, test } from 'vitest';
import { call, makeTestServer } from './testing.ts';

const { app } = makeTestServer();
const writer = makeTestServer({ capabilities: { rank: false } });
afterAll(() => Promise.all([app.close(), writer.app.close()]));

const documents = ['rain in Spain', 'the cat sleeps', { text: 'the cat in the rain' }];
const body = { model: 'chat', query: 'the cat', documents };

test('documents come in the order of their scores, under every path that clients know', async () => {
  const answers = await Promise.all(
    ['/v1/rerank', '/v2/rerank', '/rerank'].map((path) => call(app, 'POST', path, body)),
  );
  for (const { status, body: answer } of answers)
    expect([status, answer]).toEqual([
      200,
      {
        object: 'list',
        model: 'chat',
        usage: { prompt_tokens: 67, total_tokens: 67 },
        results: [
          { index: 1, relevance_score: 1 },
          { index: 2, relevance_score: 1 },
          { index: 0, relevance_score: 0 },
        ],
      },
    ]);
});

test('as many as were asked for, with their texts', async () => {
  const { body: answer } = await call(app, 'POST', '/v1/rerank', { ...body, top_n: 2, return_documents: true });
  expect((answer as { results: unknown }).results).toEqual([
    { index: 1, relevance_score: 1, document: { text: 'the cat sleeps' } },
    { index: 2, relevance_score: 1, document: { text: 'the cat in the rain' } },
  ]);
});

test.each([
  ['no query', { query: undefined }, 'query is required'],
  ['no documents', { documents: [] }, 'documents must be a list of 1 to 2048 texts, or of objects with a text'],
  ['none of them', { top_n: 0 }, 'top_n must be a whole number of at least 1'],
])('%s is refused', async (_, change, message) => {
  const answer = await call(app, 'POST', '/v1/rerank', { ...body, ...change });
  expect([answer.status, (answer.body as { error: { message: string } }).error.message]).toEqual([400, message]);
});

test('a model that does not rank says so', async () => {
  const answer = await call(writer.app, 'POST', '/v1/rerank', body);
  expect([answer.status, (answer.body as { error: { message: string } }).error.message]).toEqual([
    400,
    'this model does not rank documents: use one that was made for reranking, such as bge-reranker',
  ]);
});
