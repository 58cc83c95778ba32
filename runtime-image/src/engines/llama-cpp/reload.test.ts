/** What happens to a real model whose context can compute nothing any more. */
import { expect, test, vi } from 'vitest';
import { EngineBrokenError } from '../../scheduling/job.ts';
import { RevivingEngine } from '../reviving-engine.ts';
import { LlamaCppDecoder } from './decoder.ts';
import { answerTo, loadSmolLm2, question } from './testing.ts';

vi.setConfig({ testTimeout: 120_000 });

test('it is loaded again in the same process, and answers as before', async () => {
  const told: string[] = [];
  const load = () => loadSmolLm2();
  const engine = new RevivingEngine(await load(), load, (message) => told.push(message));
  const prompt = question(engine, 'What is the capital of France?');
  const before = await answerTo(engine, prompt);

  const decode = vi.spyOn(LlamaCppDecoder.prototype, 'decode').mockRejectedValue(new Error('Eval has failed'));
  const running = [answerTo(engine, prompt), answerTo(engine, prompt)];
  await Promise.allSettled(running);
  while (!engine.stats.broken) await answerTo(engine, prompt).catch(() => undefined);
  await expect(answerTo(engine, prompt)).rejects.toThrow(EngineBrokenError);
  decode.mockRestore();

  await vi.waitUntil(() => engine.stats.broken === undefined, { timeout: 30_000 });
  expect((await answerTo(engine, prompt)).text).toBe(before.text);
  expect(engine.stats).toMatchObject({ reloads: 1, slotsBusy: 0, queued: 0 });
  expect(told).toEqual(['the engine failed (Eval has failed): it is loaded again']);
  await engine.close();
});
