/**
 * Asks one pod all smoke tests, one after the other, and judges its answers. Owns how often a failure is tried again; knows no
 * rollout. Of an answer nothing is kept but a signature, and a short excerpt in the message when it fails.
 */
import type { SLMDeployment, SmokeTest } from '@slm-operator/crds';
import { type Clock, sleep } from '../../runtime/clock.ts';
import { checkAnswer, problemOf, type Verdict, wantsText } from './expectations.ts';
import { cosine, signatureOf } from './likeness.ts';
import { AskError, type ModelClient, type ModelPlace } from './model-client.ts';
import type { OperatorAccess } from './operator-access.ts';

/** A server that fails or is too slow gets so many tries. */
const TRIES = 3;
const PAUSE_MS = 1000;

/** A pod to ask. */
export interface AskedPod {
  readonly deployment: SLMDeployment;
  readonly ip: string;
  readonly port?: number | undefined;
}

export interface Outcome extends Verdict {
  readonly name: string;
  /** Of the answer; undefined where none was generated, or none came. */
  readonly signature: string | undefined;
}

export interface SmokeRunOptions {
  readonly client: ModelClient;
  readonly access: OperatorAccess;
  /** A pod of another deployment that embeds; throws {@link AskError} when there is none. */
  readonly embedderOf: (deployment: SLMDeployment, name: string) => AskedPod;
  readonly clock: Clock;
}

/**
 * Every test's outcome, in their order. Throws {@link AskError} of kind `unreachable` when nothing can be said of the model: that is
 * no failure of the revision.
 * @param onlyUntilFailure leave the rest out after the first that fails
 */
export async function runSmokeTests(
  options: SmokeRunOptions,
  pod: AskedPod,
  tests: readonly SmokeTest[],
  { onlyUntilFailure = false, signal }: { onlyUntilFailure?: boolean; signal?: AbortSignal } = {},
): Promise<Outcome[]> {
  const place = await placeOf(options, pod, signal);
  const outcomes: Outcome[] = [];
  for (const test of tests) {
    const outcome = await runTest(options, place, test, signal);
    outcomes.push(outcome);
    if (onlyUntilFailure && !outcome.passed) break;
  }
  return outcomes;
}

async function placeOf({ access }: SmokeRunOptions, pod: AskedPod, signal?: AbortSignal): Promise<ModelPlace> {
  return { ...pod, ...(await access(pod.deployment, signal)) };
}

async function runTest(
  options: SmokeRunOptions,
  place: ModelPlace,
  test: SmokeTest,
  signal: AbortSignal | undefined,
): Promise<Outcome> {
  const { name } = test;
  const lost = (message: string): Outcome => ({ name, passed: false, score: 0, message, signature: undefined });
  const problem = problemOf(test);
  if (problem !== undefined) return lost(problem);
  for (let tries = 1; ; tries++) {
    try {
      return await ask(options, place, test, signal);
    } catch (error) {
      if (!(error instanceof AskError) || error.kind === 'unreachable') throw error;
      if (error.kind === 'refused' || tries >= TRIES) return lost(error.message);
      await sleep(options.clock, PAUSE_MS * tries, signal);
    }
  }
}

async function ask(
  options: SmokeRunOptions,
  place: ModelPlace,
  test: SmokeTest,
  signal: AbortSignal | undefined,
): Promise<Outcome> {
  const { client } = options;
  const { name, similarity } = test;
  const text = wantsText(test) ? await client.answer(place, test, signal) : undefined;
  const signature = text === undefined ? undefined : signatureOf(text);
  const early = checkAnswer(withoutSimilarity(test), { text, similarity: undefined });
  if (similarity === undefined || !early.passed) return { name, signature, ...early };
  // A model that only embeds answers nothing: its own vector of the question stands for the answer.
  const texts = [similarity.embedder === undefined ? test.prompt : (text ?? ''), similarity.to];
  // An answer without a word is like none, and no server embeds it.
  const empty = texts[0]?.trim() === '';
  const vectors = empty ? [] : await embed(options, place, test, texts, signal);
  const [came = [], golden = []] = vectors;
  return { name, signature, ...checkAnswer(test, { text, similarity: cosine(came, golden) }) };
}

/** What of a test needs no embeddings. */
function withoutSimilarity(test: SmokeTest): SmokeTest {
  const { similarity, ...rest } = test;
  return similarity === undefined ? test : rest;
}

async function embed(
  options: SmokeRunOptions,
  place: ModelPlace,
  { similarity, timeoutSeconds }: SmokeTest,
  texts: readonly string[],
  signal: AbortSignal | undefined,
): Promise<number[][]> {
  const name = similarity?.embedder;
  if (name === undefined) return options.client.embed(place, texts, timeoutSeconds, signal);
  try {
    const embedder = await placeOf(options, options.embedderOf(place.deployment, name), signal);
    return await options.client.embed(embedder, texts, timeoutSeconds, signal);
  } catch (error) {
    if (!(error instanceof AskError)) throw error;
    // An embedder that fails does not speak against the revision that is asked; one that refuses this text always will.
    throw new AskError(error.kind === 'refused' ? 'refused' : 'unreachable', `embedder ${name}: ${error.message}`);
  }
}
