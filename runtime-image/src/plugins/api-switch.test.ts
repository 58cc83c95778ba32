import { expect, test } from 'vitest';
import { call, makeTestServer } from '../routes/testing.ts';

const everywhere = ['/v1/models', '/api/tags', '/api/health', '/metrics', '/readyz', '/openapi.json', '/'];

test.each([
  ['both', {}, [200, 200, 200, 200, 200, 200, 200]],
  ['no OpenAI', { openai: false }, [404, 200, 200, 200, 200, 200, 200]],
  ['no Ollama', { ollama: false }, [200, 404, 200, 200, 200, 200, 200]],
])('%s', async (_, apis, expected) => {
  const { app } = makeTestServer({ apis });
  const answers = await Promise.all(everywhere.map((url) => call(app, 'GET', url)));
  expect(answers.map(({ status }) => status)).toEqual(expected);
});

test('the answer says what to do, in the words of the API that is off', async () => {
  const { app } = makeTestServer({ apis: { openai: false } });
  expect((await call(app, 'POST', '/v1/messages', {})).body).toMatchObject({
    type: 'error',
    error: { message: 'this server does not serve OpenAI’s API: use Ollama’s, or set spec.api.openai to true' },
  });
  const other = makeTestServer({ apis: { ollama: false } });
  expect((await call(other.app, 'POST', '/api/chat', {})).body).toEqual({
    error: 'this server does not serve Ollama’s API: use OpenAI’s, or set spec.api.ollama to true',
  });
});
