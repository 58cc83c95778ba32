/**
 * The first tokens of a freshly loaded model: proof that it answers, and how fast. Readiness waits for this.
 */
import type { Engine, Token } from './engines/engine.ts';
import { GREEDY } from './scheduling/decoder.ts';

/** One token proves that the model works; the others time the decoder without delaying the start much. */
const TOKENS = 5;
/** Where the speed decides over readiness: enough that a pause of the machine does not. */
const MEASURED_TOKENS = 33;

/**
 * @param measured whether the speed decides over something, and is worth more time
 * @returns tokens a second of one stream; 0 for a model that only embeds
 * @throws Error when no token comes
 */
export async function warmUp(engine: Engine, measured = false): Promise<number> {
  if (!engine.info.capabilities.generate) {
    if (engine.info.capabilities.rank === true) await engine.rank('Hello', ['Hello']);
    else await engine.embed(['Hello']);
    return 0;
  }
  const prompt = [...engine.beginning, ...engine.tokenize('Hello', false)];
  const answer = (maxTokens: number) => speedOf(engine, prompt, maxTokens);
  const speed = await answer(TOKENS);
  if (!measured) return speed;
  // Again, because a GPU compiles its programs while it computes for the first time.
  const room = engine.info.contextLength - prompt.length;
  return Math.max(speed, await answer(Math.min(MEASURED_TOKENS, room)));
}

async function speedOf(engine: Engine, prompt: readonly Token[], maxTokens: number): Promise<number> {
  const generation = engine.generate({
    prompt,
    maxTokens,
    sampling: GREEDY,
    stop: [],
  });
  for await (const part of generation) {
    if (part.type !== 'end') continue;
    // The first token belongs to the prompt's time; a model that ends at once has still produced one.
    const decoded = part.completionTokens - 1;
    return decoded > 0 && part.decodeMs > 0 ? (1000 * decoded) / part.decodeMs : 0;
  }
  throw new Error('the model produced no token');
}
