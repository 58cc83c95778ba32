/**
 * Texts to vectors with llama.cpp, in contexts of their own that are made when the first text comes.
 *
 * The library gives the vector of one text a decode and no more, so that many texts are computed side by side instead of in
 * one batch.
 */

import type { Token } from '../../scheduling/decoder.ts';
import type { Embedder } from '../batched-engine.ts';
import { type Embeddings, type EmbedOptions, PromptTooLongError } from '../engine.ts';
import type { OneAtATime } from '../one-at-a-time.ts';
import { SideBySide } from '../side-by-side.ts';
import type { NativeEmbedder, NativeModel } from './binding.ts';

/** Contexts side by side at most: each takes memory for the longest text. */
const MOST_LANES = 8;

/** A model that generates has keys and values in every context, and better things to do. */
export function lanesFor(model: Pick<NativeModel, 'generates'>, threads: number): number {
  return model.generates ? 1 : Math.min(threads, MOST_LANES);
}

export class LlamaCppEmbedder implements Embedder {
  readonly #model: NativeModel;
  readonly #contexts: SideBySide<NativeEmbedder>;

  /** @param maxQueue requests that may wait */
  constructor(model: NativeModel, processor: OneAtATime, maxQueue: number, threads: number) {
    this.#model = model;
    this.#contexts = new SideBySide({
      processor,
      makeContext: (share) => model.createEmbedder(share),
      threads,
      lanes: lanesFor(model, threads),
      maxQueue,
    });
  }

  async embed(inputs: readonly (string | readonly Token[])[], options: EmbedOptions): Promise<Embeddings> {
    this.#contexts.checkRoom();
    options.signal?.throwIfAborted();
    const { contextLength } = await this.#contexts.context();
    // All lengths first: an input that is too long is refused before the others cost anything.
    const prepared = inputs.map((input) => this.#prepare(input, contextLength, options.truncate === true));
    const vectors = await this.#contexts.run(
      prepared.map((tokens) => ({ size: tokens.length, run: (native) => native.embed(tokens) })),
      options.signal,
    );
    return {
      embeddings: vectors.map((vector) =>
        options.normalize === false ? Float32Array.from(vector) : normalized(vector),
      ),
      promptTokens: prepared.reduce((sum, tokens) => sum + tokens.length, 0),
    };
  }

  #prepare(input: string | readonly Token[], contextLength: number, truncate: boolean): Token[] {
    const tokens = typeof input === 'string' ? this.#model.tokenize(input, false) : [...input];
    const { begin, end } = this.#model.embeddingFrame;
    const room = contextLength - 1 - begin.length - end.length;
    if (tokens.length > room && !truncate)
      throw new PromptTooLongError(tokens.length + begin.length + end.length, contextLength);
    return [...begin, ...tokens.slice(0, room), ...end];
  }
}

/** Scaled to length 1; nothing but zeros stays as it is. */
function normalized(vector: readonly number[]): Float32Array {
  const length = Math.hypot(...vector);
  return Float32Array.from(vector, (value) => (length === 0 ? value : value / length));
}
