/**
 * The scheduler's decoder over llama.cpp's context. Thin: batches in, tokens out; every decision is the scheduler's.
 */
import {
  type BatchItem,
  type Decoder,
  NO_TOKEN,
  type Pick,
  type SamplerRequest,
  type SavedState,
  type Token,
  type TokenSampler,
} from '../../scheduling/decoder.ts';
import type { OneAtATime } from '../one-at-a-time.ts';
import type { NativeModel } from './binding.ts';
import { LlamaCppSampler } from './sampler.ts';
import { StateFiles } from './state-files.ts';

interface NativeSampler extends TokenSampler {
  /** @param logits where they are in the last batch */
  next(logits: number): Promise<Pick>;
}

interface SavedFile extends SavedState {
  readonly file: string;
}

const NO_LOGITS = new Uint32Array(0);

export class LlamaCppDecoder implements Decoder<NativeSampler> {
  readonly slots: number;
  readonly contextLength: number;
  readonly batchSize: number;
  /** Where a text's end can be taken back, a guess can be. */
  readonly takesGuesses: boolean;
  readonly #model: NativeModel;
  readonly #processor: OneAtATime;
  #files: StateFiles | undefined;
  /** Where the logits of each item of the last batch are, of one with guesses several. */
  #logits: Uint32Array[] = [];

  constructor(model: NativeModel, processor: OneAtATime, slots: number, batchSize: number) {
    this.#model = model;
    this.#processor = processor;
    this.slots = slots;
    this.contextLength = model.contextLength;
    this.batchSize = batchSize;
    this.takesGuesses = model.shifts;
  }

  createSampler(request: SamplerRequest, history: readonly Token[]): NativeSampler {
    return new LlamaCppSampler(this.#model, request, history);
  }

  async decode(items: readonly BatchItem[]): Promise<void> {
    const { context } = this.#model;
    context.initBatch(items.reduce((sum, item) => sum + item.tokens.length, 0));
    this.#logits = items.map((item) => {
      const { tokens, guesses = 0 } = item;
      const first = tokens.length - 1 - guesses;
      const wanted = item.sampled ? Uint32Array.from({ length: 1 + guesses }, (_, row) => first + row) : NO_LOGITS;
      return context.addToBatch(item.slot, item.position, Uint32Array.from(tokens), wanted);
    });
    await this.#processor.run(() => context.decodeBatch());
  }

  async sample(
    picks: readonly { readonly item: number; readonly row?: number; readonly sampler: NativeSampler }[],
  ): Promise<readonly Pick[]> {
    return Promise.all(
      picks.map(({ item, row = 0, sampler }) =>
        // One that fails must not leave before the others are done: their samplers are still in use.
        sampler.next(this.#logits[item]?.[row] ?? -1).catch(() => ({ token: NO_TOKEN })),
      ),
    );
  }

  truncate(slot: number, length: number): number {
    const { context, slidingWindow } = this.#model;
    if (context.removeTokenCellsFromSequence(slot, length, -1)) {
      // Layers with a sliding window have forgotten what lies before it; such a prefix cannot be continued.
      const oldest = context.getSequenceKvCacheMinPosition(slot);
      if (slidingWindow === undefined || length === 0 || oldest <= Math.max(0, length - slidingWindow)) return length;
    }
    context.removeTokenCellsFromSequence(slot, 0, -1);
    return 0;
  }

  shift(slot: number, keep: number, discard: number): boolean {
    const { context, shifts } = this.#model;
    if (!shifts || !context.removeTokenCellsFromSequence(slot, keep, keep + discard)) return false;
    context.shiftSequenceTokenCells(slot, keep + discard, -1, -discard);
    return true;
  }

  async save(slot: number, tokens: readonly Token[]): Promise<SavedFile> {
    const files = (this.#files ??= new StateFiles());
    const file = files.next();
    const drop = () => files.drop(file);
    try {
      const bytes = await this.#model.context.saveSequenceStateToFile(file, slot, Uint32Array.from(tokens));
      return { file, bytes, drop };
    } catch (error) {
      drop();
      throw error;
    }
  }

  async restore(saved: SavedState, slot: number): Promise<void> {
    this.truncate(slot, 0);
    await this.#model.context.loadSequenceStateFromFile((saved as SavedFile).file, slot, this.contextLength);
  }

  /** Takes saved states away. */
  dispose(): void {
    this.#files?.dispose();
  }

  async copy(from: number, to: number): Promise<void> {
    this.truncate(to, 0);
    await this.#model.context.copySequenceStateFromOtherSequence(to, from);
  }
}
