/** How likely tokens are, by logits as the model gave them. */
import type { Score, Token } from '../../scheduling/decoder.ts';
import { topTokens } from './candidates.ts';

/**
 * @param count likeliest tokens to score beside `token`
 * @returns natural logarithms of probabilities
 */
export function scoresOf(
  logits: Float32Array,
  token: Token,
  count: number,
): { readonly logprob: number; readonly top: Score[] } {
  let highest = Number.NEGATIVE_INFINITY;
  for (const logit of logits) if (logit > highest) highest = logit;
  let sum = 0;
  for (const logit of logits) if (logit > Number.NEGATIVE_INFINITY) sum += Math.exp(logit - highest);
  const offset = highest + Math.log(sum);
  // Rounding may lift a certain token a hair over certainty.
  const score = (one: Token) => Math.min(0, (logits[one] ?? Number.NEGATIVE_INFINITY) - offset);
  return {
    logprob: score(token),
    top: Array.from(count > 0 ? topTokens(logits, count) : [], (one): Score => [one, score(one)]),
  };
}
