/**
 * How well documents answer a query, by a model that was made for that: each pair is one text to it. Owns how pairs are written
 * down; shares the processor with nobody, because such models do nothing else.
 */
import type { Token } from '../../scheduling/decoder.ts';
import type { Ranker } from '../batched-engine.ts';
import { PromptTooLongError, type Ranking } from '../engine.ts';
import type { OneAtATime } from '../one-at-a-time.ts';
import { SideBySide } from '../side-by-side.ts';
import type { NativeEmbedder, NativeModel } from './binding.ts';
import { lanesFor } from './embedder.ts';

export class LlamaCppRanker implements Ranker {
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

  async rank(query: string, documents: readonly string[], signal: AbortSignal | undefined): Promise<Ranking> {
    this.#contexts.checkRoom();
    signal?.throwIfAborted();
    const { contextLength } = await this.#contexts.context();
    const asked = this.#model.tokenize(query, false);
    const { begin, middle, end } = this.#model.rankingFrame;
    const head = [...begin, ...asked, ...middle];
    const room = contextLength - 1 - head.length - end.length;
    // A query that leaves nothing for the documents compares nothing.
    if (room < contextLength / 4) throw new PromptTooLongError(head.length + end.length, contextLength);
    const pairs = documents.flatMap((document, index) =>
      partsOf(this.#model.tokenize(document, false), room).map((part) => ({
        index,
        tokens: [...head, ...part, ...end],
      })),
    );
    const scores = await this.#contexts.run(
      pairs.map(({ tokens }) => ({ size: tokens.length, run: (native) => native.embed(tokens) })),
      signal,
    );
    const best = documents.map(() => 0);
    pairs.forEach(({ index }, place) => {
      best[index] = Math.max(best[index] ?? 0, this.#probability(scores[place]?.[0] ?? Number.NEGATIVE_INFINITY));
    });
    return { scores: best, promptTokens: pairs.reduce((sum, { tokens }) => sum + tokens.length, 0) };
  }

  #probability(score: number): number {
    return this.#model.rankNormalized ? score : 1 / (1 + Math.exp(-score));
  }
}

/** A text in parts of at most `room` tokens; an empty one is one part. */
function partsOf(tokens: readonly Token[], room: number): Token[][] {
  const parts = Array.from({ length: Math.ceil(tokens.length / room) }, (_, part) =>
    tokens.slice(part * room, (part + 1) * room),
  );
  return parts.length === 0 ? [[]] : parts;
}
