/** Texts to vectors with an ONNX model: one input after another on the engine's thread. */
import type { Token } from '../../scheduling/decoder.ts';
import { QueueFullError } from '../../scheduling/queue.ts';
import type { Embedder } from '../batched-engine.ts';
import { type Embeddings, type EmbedOptions, PromptTooLongError } from '../engine.ts';
import type { ThreadClient } from './thread-client.ts';
import type { TextTokenizer } from './tokenizer.ts';

/** Retry-After when too many wait, in seconds: an input takes a fraction of a second. */
const RETRY = 2;

export class OnnxEmbedder implements Embedder {
  readonly #thread: ThreadClient;
  readonly #tokenizer: TextTokenizer;
  readonly #contextLength: number;
  readonly #maxQueue: number;
  #waiting = 0;

  /**
   * @param contextLength tokens of one input, with those around it
   * @param maxQueue requests that may wait
   */
  constructor(thread: ThreadClient, tokenizer: TextTokenizer, contextLength: number, maxQueue: number) {
    this.#thread = thread;
    this.#tokenizer = tokenizer;
    this.#contextLength = contextLength;
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
    // All lengths first: an input that is too long is refused before the others cost anything.
    const prepared = inputs.map((input) => this.#prepare(input, options.truncate === true));
    const embeddings: Float32Array[] = [];
    for (const tokens of prepared) {
      options.signal?.throwIfAborted();
      const vector = await this.#thread.call('embed', tokens);
      embeddings.push(options.normalize === false ? vector : normalized(vector));
    }
    return { embeddings, promptTokens: prepared.reduce((sum, tokens) => sum + tokens.length, 0) };
  }

  #prepare(input: string | readonly Token[], truncate: boolean): Token[] {
    const tokens = typeof input === 'string' ? this.#tokenizer.tokenize(input, false) : input;
    const { begin, end } = this.#tokenizer.frame;
    const room = this.#contextLength - begin.length - end.length;
    if (tokens.length > room && !truncate)
      throw new PromptTooLongError(tokens.length + begin.length + end.length, this.#contextLength);
    return [...begin, ...tokens.slice(0, room), ...end];
  }
}

/** Scaled to length 1; nothing but zeros stays as it is. */
function normalized(vector: Float32Array): Float32Array {
  const length = Math.hypot(...vector);
  return length === 0 ? vector : vector.map((value) => value / length);
}
