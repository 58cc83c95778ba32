/** A model that embeds, on the engine's thread: tokens in, one vector out. Owns the pooling. */
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import type { Token } from '../../scheduling/decoder.ts';
import type { EmbeddingSpec } from './model-spec.ts';
import { floatsOf, integers, type Runtime } from './session.ts';
import type { Pooling } from './settings.ts';

export class EmbeddingModel {
  readonly #runtime: Runtime;
  readonly #session: InferenceSession;
  readonly #spec: EmbeddingSpec;
  readonly #pooling: Pooling;

  constructor(runtime: Runtime, session: InferenceSession, spec: EmbeddingSpec, pooling: Pooling) {
    this.#runtime = runtime;
    this.#session = session;
    this.#spec = spec;
    this.#pooling = pooling;
  }

  /** @param tokens with those that begin and end a text */
  async embed(tokens: readonly Token[]): Promise<Float32Array> {
    const { ids, mask, types, output, pooled } = this.#spec;
    const count = tokens.length;
    const feeds: Record<string, Tensor> = { [ids.name]: integers(this.#runtime, ids, tokens, [1, count]) };
    if (mask) feeds[mask.name] = integers(this.#runtime, mask, new Uint8Array(count).fill(1), [1, count]);
    if (types) feeds[types.name] = integers(this.#runtime, types, new Uint8Array(count), [1, count]);
    const results = await this.#session.run(feeds, [output.name]);
    const vectors = Float32Array.from(floatsOf(results[output.name] as Tensor));
    return pooled ? vectors : pool(vectors, count, this.#pooling);
  }
}

/**
 * @param vectors of all tokens, one after another
 * @param count number of tokens
 */
export function pool(vectors: Float32Array, count: number, pooling: Pooling): Float32Array {
  const width = vectors.length / count;
  if (pooling === 'cls') return vectors.slice(0, width);
  if (pooling === 'last') return vectors.slice((count - 1) * width);
  const pooled = new Float32Array(width);
  for (let place = 0; place < width; place++) {
    let sum = 0;
    let highest = Number.NEGATIVE_INFINITY;
    for (let token = 0; token < count; token++) {
      const value = vectors[token * width + place] as number;
      // Later tokens have seen more of the text.
      sum += pooling === 'weighted-mean' ? value * (token + 1) : value;
      highest = Math.max(highest, value);
    }
    const weights = { mean: count, 'mean-sqrt': Math.sqrt(count), 'weighted-mean': (count * (count + 1)) / 2, max: 1 };
    pooled[place] = pooling === 'max' ? highest : sum / weights[pooling];
  }
  return pooled;
}
