/**
 * Texts to vectors with llama.cpp: one input after another in a context of their own, made when the first one comes.
 * Shares the processor with the decoder, in turns.
 */

import type { Token } from '../../scheduling/decoder.ts';
import { QueueFullError } from '../../scheduling/queue.ts';
import type { Embedder } from '../batched-engine.ts';
import { type Embeddings, type EmbedOptions, PromptTooLongError } from '../engine.ts';
import type { OneAtATime } from '../one-at-a-time.ts';
import type { NativeEmbedder, NativeModel } from './binding.ts';

/** Retry-After when too many wait, in seconds: an input takes a fraction of a second. */
const RETRY = 2;

export class LlamaCppEmbedder implements Embedder {
  readonly #model: NativeModel;
  readonly #processor: OneAtATime;
  readonly #maxQueue: number;
  #native: Promise<NativeEmbedder> | undefined;
  #waiting = 0;

  /** @param maxQueue requests that may wait */
  constructor(model: NativeModel, processor: OneAtATime, maxQueue: number) {
    this.#model = model;
    this.#processor = processor;
    this.#maxQueue = maxQueue;
  }

  async embed(inputs: readonly (string | readonly Token[])[], options: EmbedOptions): Promise<Embeddings> {
    if (this.#waiting > this.#maxQueue) throw new QueueFullError(this.#waiting, RETRY);
    this.#waiting++;
    try {
      return await this.#all(inputs, options);
    } finally {
      this.#waiting--;
    }
  }

  async #all(inputs: readonly (string | readonly Token[])[], options: EmbedOptions): Promise<Embeddings> {
    options.signal?.throwIfAborted();
    this.#native ??= this.#processor.run(() => this.#model.createEmbedder());
    const native = await this.#native.catch((error: unknown) => {
      // Memory that lacked then may be there the next time.
      this.#native = undefined;
      throw error;
    });
    // All lengths first: an input that is too long is refused before the others cost anything.
    const prepared = inputs.map((input) => this.#prepare(input, native.contextLength, options.truncate === true));
    const embeddings: Float32Array[] = [];
    for (const tokens of prepared) {
      options.signal?.throwIfAborted();
      const vector = await this.#processor.run(() => native.embed(tokens));
      embeddings.push(options.normalize === false ? Float32Array.from(vector) : normalized(vector));
    }
    return { embeddings, promptTokens: prepared.reduce((sum, tokens) => sum + tokens.length, 0) };
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
