/**
 * The scheduler's decoder over the engine's thread. Thin: batches out, tokens in. Cutting a slot costs nothing here: the
 * next batch says where it goes on.
 */
import type {
  BatchItem,
  Decoder,
  Pick,
  SamplerRequest,
  SavedState,
  Token,
  TokenSampler,
} from '../../scheduling/decoder.ts';
import type { PackedVocabulary } from '../sampling/token-order.ts';
import type { ThreadClient } from './thread-client.ts';

interface ThreadSampler extends TokenSampler {
  readonly id: number;
}

interface ThreadState extends SavedState {
  readonly id: number;
}

export interface OnnxDecoderOptions {
  readonly slots: number;
  readonly contextLength: number;
  readonly batchSize: number;
  /** The vocabulary for grammars; made when the first one comes. */
  readonly vocabulary: () => PackedVocabulary;
}

export class OnnxDecoder implements Decoder<ThreadSampler> {
  readonly slots: number;
  readonly contextLength: number;
  readonly batchSize: number;
  readonly #thread: ThreadClient;
  #vocabulary: (() => PackedVocabulary) | undefined;
  #ids = 0;

  constructor(thread: ThreadClient, options: OnnxDecoderOptions) {
    this.#thread = thread;
    this.slots = options.slots;
    this.contextLength = options.contextLength;
    this.batchSize = options.batchSize;
    this.#vocabulary = options.vocabulary;
  }

  createSampler(request: SamplerRequest, history: readonly Token[]): ThreadSampler {
    if (request.grammar !== undefined && this.#vocabulary) {
      this.#thread.note('vocabulary', this.#vocabulary());
      this.#vocabulary = undefined;
    }
    const id = ++this.#ids;
    this.#thread.note('addSampler', id, request, history);
    return { id, dispose: () => this.#thread.note('dropSampler', id) };
  }

  async decode(items: readonly BatchItem[]): Promise<void> {
    await this.#thread.call('decode', items);
  }

  sample(
    picks: readonly { readonly item: number; readonly row: number; readonly sampler: ThreadSampler }[],
  ): Promise<readonly Pick[]> {
    return this.#thread.call(
      'sample',
      picks.map(({ item, sampler }) => ({ item, sampler: sampler.id })),
    );
  }

  truncate(_slot: number, length: number): number {
    return length;
  }

  async copy(from: number, to: number): Promise<void> {
    await this.#thread.call('copy', from, to);
  }

  async save(slot: number, tokens: readonly Token[]): Promise<ThreadState> {
    const id = ++this.#ids;
    const bytes = await this.#thread.call('save', slot, id, tokens.length);
    return { id, bytes, drop: () => this.#thread.note('dropState', id) };
  }

  async restore(saved: SavedState, slot: number): Promise<void> {
    await this.#thread.call('restore', (saved as ThreadState).id, slot);
  }
}
