/**
 * Picks one token of a row of logits that penalties and biases have been through: top-k, then top-p, then min-p, then
 * temperature, as llama.cpp orders them. Pure but for the random numbers.
 */
import { NO_TOKEN, type SamplingParams, type Token } from '../../scheduling/decoder.ts';
import { likeliest, tokensFrom, topTokens } from './candidates.ts';
import type { SeededRandom } from './random.ts';

export type ChoiceParams = Pick<SamplingParams, 'temperature' | 'topK' | 'topP' | 'minP'>;

/** Sizes in which the nucleus of top-p is looked for; it is nearly always in the first. */
const NUCLEUS_STEPS = [128, 2048];

/** @returns NO_TOKEN where every token is ruled out */
export function chooseToken(logits: Float32Array, params: ChoiceParams, random: SeededRandom): Token {
  const best = likeliest(logits);
  if (best < 0) return NO_TOKEN;
  // A certain token needs no dice, and differences from infinity are no numbers.
  if (params.temperature <= 0 || logits[best] === Number.POSITIVE_INFINITY) return best;
  return draw(logits, shortlist(logits, logits[best] as number, params), params.temperature, random) ?? best;
}

/** The tokens that may be drawn. */
function shortlist(logits: Float32Array, highest: number, { topK, topP, minP }: ChoiceParams): Uint32Array {
  const limited = topK > 0 && topK < logits.length;
  const lowest = minP > 0 ? highest + Math.log(minP) : Number.NEGATIVE_INFINITY;
  let tokens: Uint32Array;
  if (limited) {
    tokens = topTokens(logits, topK);
    if (topP < 1) tokens = nucleus(logits, tokens, topP * mass(logits, tokens, highest), highest) ?? tokens;
  } else if (topP < 1) tokens = nucleusOfAll(logits, topP, highest);
  else return tokensFrom(logits, lowest);
  return tokens.filter((token) => (logits[token] as number) >= lowest);
}

function nucleusOfAll(logits: Float32Array, topP: number, highest: number): Uint32Array {
  let total = 0;
  for (const logit of logits) if (logit > Number.NEGATIVE_INFINITY) total += Math.exp(logit - highest);
  for (const count of NUCLEUS_STEPS) {
    if (count >= logits.length) break;
    const found = nucleus(logits, topTokens(logits, count), topP * total, highest);
    if (found) return found;
  }
  return wideNucleus(logits, topP * total, highest);
}

/** The same for a nucleus of thousands: numbers alone are sorted much faster than tokens by their numbers. */
function wideNucleus(logits: Float32Array, wanted: number, highest: number): Uint32Array {
  const sorted = logits.slice().sort();
  let at = sorted.length - 1;
  let sum = 0;
  // NaN stands behind everything.
  while (at > 0 && Number.isNaN(sorted[at])) at--;
  const last = at;
  for (; at >= 0; at--) {
    sum += Math.exp((sorted[at] as number) - highest);
    if (sum >= wanted) break;
  }
  const lowest = sorted[Math.max(at, 0)] as number;
  const found = tokensFrom(logits, lowest);
  // Of equals at the border the lower ids are in.
  let tooMany = found.length - (last - Math.max(at, 0) + 1);
  return found.toReversed().filter((token) => !(tooMany > 0 && logits[token] === lowest && tooMany-- > 0));
}

/**
 * The fewest of `tokens`, likeliest first, whose weights reach `wanted`; at least one.
 * @returns undefined when they do not reach it
 */
function nucleus(logits: Float32Array, tokens: Uint32Array, wanted: number, highest: number): Uint32Array | undefined {
  let sum = 0;
  for (let count = 0; count < tokens.length; count++) {
    sum += Math.exp((logits[tokens[count] as number] as number) - highest);
    if (sum >= wanted) return tokens.subarray(0, count + 1);
  }
  return undefined;
}

function mass(logits: Float32Array, tokens: Uint32Array, highest: number): number {
  let sum = 0;
  for (const token of tokens) sum += Math.exp((logits[token] as number) - highest);
  return sum;
}

function draw(logits: Float32Array, tokens: Uint32Array, temperature: number, random: SeededRandom): Token | undefined {
  let highest = Number.NEGATIVE_INFINITY;
  for (const token of tokens) highest = Math.max(highest, logits[token] as number);
  const weights = new Float64Array(tokens.length);
  let total = 0;
  for (let index = 0; index < tokens.length; index++) {
    const weight = Math.exp(((logits[tokens[index] as number] as number) - highest) / temperature);
    weights[index] = weight;
    total += weight;
  }
  let left = random.next() * total;
  for (let index = 0; index < tokens.length; index++) {
    left -= weights[index] as number;
    if (left < 0) return tokens[index];
  }
  return tokens.at(-1);
}
