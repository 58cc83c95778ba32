import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { listen } from '../listeners.ts';
import { call, makeTestServer } from '../routes/testing.ts';
import { operationOf } from './metrics.ts';

/** Our lines without what differs from run to run. */
const ours = (text: unknown) =>
  String(text)
    .split('\n')
    .filter((line) => /^(slm|gen_ai)_/.test(line) && !/_bucket|_sum/.test(line))
    .join('\n');

test('metrics count requests, tokens, times and slots, by names that no client makes up', async () => {
  const { app } = makeTestServer();
  const chat = { messages: [{ role: 'user', content: 'a' }], stream: false };
  await call(app, 'POST', '/api/chat', { model: 'chat', ...chat });
  await call(app, 'POST', '/v1/embeddings', { model: 'phi4:mini', input: 'abc' });
  for (const model of ['made-up-1', 'made-up-2']) await call(app, 'POST', '/api/chat', { model, ...chat });
  for (const path of ['/made/up/path', '/another']) await call(app, 'GET', path);
  const { body } = await call(app, 'GET', '/metrics');
  expect(ours(body)).toMatchInlineSnapshot(`
    "slm_requests_total{route="/api/chat",code="200"} 1
    slm_requests_total{route="/v1/embeddings",code="200"} 1
    slm_requests_total{route="/api/chat",code="404"} 2
    slm_requests_total{route="unknown",code="404"} 2
    slm_request_duration_seconds_count{route="/api/chat"} 3
    slm_request_duration_seconds_count{route="/v1/embeddings"} 1
    slm_request_duration_seconds_count{route="unknown"} 2
    slm_errors_total{kind="model_not_found"} 2
    slm_errors_total{kind="unknown_url"} 2
    slm_connections_dropped_total 0
    gen_ai_server_request_duration_seconds_count{gen_ai_request_model="chat",gen_ai_operation_name="chat"} 1
    gen_ai_server_request_duration_seconds_count{gen_ai_request_model="chat",gen_ai_operation_name="embeddings"} 1
    gen_ai_server_time_to_first_token_seconds_count{gen_ai_request_model="chat",gen_ai_operation_name="chat"} 1
    gen_ai_server_time_per_output_token_seconds_count{gen_ai_request_model="chat",gen_ai_operation_name="chat"} 1
    slm_inter_token_seconds_count{model="chat"} 10
    slm_queue_wait_seconds_count{model="chat"} 1
    slm_generated_tokens_total{model="chat"} 11
    slm_prompt_tokens_total{model="chat"} 9
    slm_cached_prompt_tokens_total{model="chat"} 0
    slm_tokens_per_second_count{model="chat"} 1
    slm_speculation_tokens_total{model="chat",result="accepted"} 0
    slm_speculation_tokens_total{model="chat",result="rejected"} 0
    slm_engine_reloads_total{model="chat"} 0
    slm_requests_running 0
    slm_queue_depth{model="chat"} 0
    slm_slots{model="chat",state="busy"} 0
    slm_slots{model="chat",state="idle"} 2
    slm_kv_cache_tokens{model="chat",state="used"} 16
    slm_kv_cache_tokens{model="chat",state="free"} 1008
    slm_model_loaded{model="chat"} 1
    slm_model_weights_bytes{model="chat"} 1000
    slm_model_load_seconds{model="chat"} 0
    slm_model_info{model="chat",engine="fake",device="cpu",backend="fake 1",architecture="fake",quantization="Q4_1"} 1
    slm_device_info{model="chat",class="cpu",backend="CPU",name="fake",execution_provider=""} 1
    slm_device_fallback{model="chat"} 0
    slm_start_tokens_per_second{model="chat"} 50"
  `);
  expect((await call(app, 'GET', '/api/metrics')).status).toBe(200);
  expect(String(body)).toContain('process_resident_memory_bytes');
  await app.close();
});

test('what was generated for a client that left is counted too', async () => {
  const { app } = makeTestServer({ contextLength: 20_000, beforeDecode: () => delay(1) });
  const listeners = await listen(app, '127.0.0.1', [0]);
  const leaving = new AbortController();
  const prompt = 'x'.repeat(9000);
  const response = await fetch(`http://127.0.0.1:${listeners.ports[0]}/api/generate`, {
    method: 'POST',
    body: JSON.stringify({ model: 'chat', prompt }),
    signal: leaving.signal,
  });
  await response.body?.getReader().read();
  leaving.abort();
  const value = async (name: string) =>
    Number(new RegExp(`^${name}{model="chat"} (\\d+)$`, 'm').exec((await app.inject('/metrics')).body)?.[1] ?? 0);
  await expect.poll(() => value('slm_prompt_tokens_total')).toBeGreaterThan(9000);
  expect(await value('slm_generated_tokens_total')).toBeGreaterThan(0);
  expect(await value('slm_generated_tokens_total')).toBeLessThan(9000);
  await listeners.close();
});

test('a stream that breaks after its first part is counted, for its status said that all is well', async () => {
  let steps = 0;
  const { app } = makeTestServer({
    beforeDecode: async () => {
      if (++steps > 3) throw new Error('the device is gone');
    },
  });
  const { body } = await call(app, 'POST', '/api/generate', { model: 'chat', prompt: 'abcdefgh', stream: true });
  expect(String(body)).toContain('"error"');
  const metrics = String((await call(app, 'GET', '/metrics')).body);
  expect(metrics).toContain('slm_requests_total{route="/api/generate",code="200"} 1');
  expect(metrics).toContain('slm_broken_streams_total{route="/api/generate"} 1');
  await app.close();
});

test.each([
  ['/api/chat', 'chat'],
  ['/api/generate', 'text_completion'],
  ['/v1/chat/completions', 'chat'],
  ['/v1/completions', 'text_completion'],
  ['/v1/messages', 'chat'],
  ['/v1/responses', 'chat'],
  ['/api/embed', 'embeddings'],
  ['/v1/embeddings', 'embeddings'],
  ['/v2/rerank', 'rerank'],
])('%s is %s', (route, operation) => {
  expect(operationOf(route)).toBe(operation);
});
