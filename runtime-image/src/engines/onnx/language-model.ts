/**
 * A language model on the engine's thread: slots, runs, logits and samplers. Computes one slot after another; what is
 * computed when is the scheduler's decision.
 */
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import { type BatchItem, NO_TOKEN, type Pick, type SamplerRequest, type Token } from '../../scheduling/decoder.ts';
import { GrammarCache } from '../sampling/grammar.ts';
import { GenerationSampler } from '../sampling/sampler.ts';
import { type PackedVocabulary, TokenOrder } from '../sampling/token-order.ts';
import { GrowingKeyValues, type KeyValues, type SavedKeyValues, SharedKeyValues, type Tensors } from './key-values.ts';
import type { SampleRequest } from './messages.ts';
import type { LanguageSpec } from './model-spec.ts';
import { type Floats, floatsOf, floatTensor, integers, makeFloats, type Runtime } from './session.ts';

/** Models give logits for every token of a run, and only the last are of use: longer runs would cost memory for nothing. */
const MOST_LOGITS = 64 * 1024 * 1024;

export interface LanguageModelOptions {
  readonly slots: number;
  readonly contextLength: number;
  readonly endTokens: readonly Token[];
}

export class LanguageModel {
  readonly #runtime: Runtime;
  readonly #session: InferenceSession;
  readonly #spec: LanguageSpec;
  readonly #options: LanguageModelOptions;
  readonly #slots: KeyValues[];
  readonly #samplers = new Map<number, GenerationSampler>();
  readonly #saved = new Map<number, SavedKeyValues>();
  /** Logits after the last token of each item of the last batch that is to be sampled. */
  readonly #rows: Float32Array[] = [];
  readonly #work: Float32Array;
  /** Where a run of one token leaves its logits. */
  readonly #single: Tensor;
  readonly #longestRun: number;
  #grammars: GrammarCache | undefined;

  constructor(runtime: Runtime, session: InferenceSession, spec: LanguageSpec, options: LanguageModelOptions) {
    this.#runtime = runtime;
    this.#session = session;
    this.#spec = spec;
    this.#options = options;
    const { vocabularySize, caches, logits } = spec;
    this.#slots = Array.from({ length: options.slots }, () =>
      spec.shared ? new SharedKeyValues(runtime, caches, options.contextLength) : new GrowingKeyValues(runtime, caches),
    );
    this.#work = new Float32Array(vocabularySize);
    this.#single = floatTensor(runtime, logits.type, makeFloats(logits.type, vocabularySize), [1, 1, vocabularySize]);
    this.#longestRun = spec.logitsWanted
      ? options.contextLength
      : Math.max(16, Math.floor(MOST_LOGITS / (4 * vocabularySize)));
  }

  setVocabulary(packed: PackedVocabulary): void {
    this.#grammars = new GrammarCache(new TokenOrder(packed), this.#options.endTokens);
  }

  async decode(items: readonly BatchItem[]): Promise<void> {
    for (const [index, item] of items.entries()) {
      const slot = this.#slot(item.slot);
      slot.truncate(item.position);
      if (slot.length !== item.position)
        throw new Error(`slot ${item.slot} holds ${slot.length} tokens and was to go on at ${item.position}`);
      const logits = item.prompt ? await this.#prompt(slot, item.tokens) : await this.#run(slot, item.tokens);
      if (!item.sampled) continue;
      // Copied: the next item's run writes to the same place.
      (this.#rows[index] ??= new Float32Array(this.#spec.vocabularySize)).set(logits);
    }
  }

  sample(picks: readonly SampleRequest[]): Pick[] {
    return picks.map(({ item, sampler }) => {
      const logits = this.#rows[item];
      const known = this.#samplers.get(sampler);
      try {
        return logits && known ? known.next(logits, this.#work) : { token: NO_TOKEN };
      } catch {
        // A grammar that gets out of hand is its request's end, and nobody else's.
        return { token: NO_TOKEN };
      }
    });
  }

  /** @throws GrammarError */
  addSampler(id: number, request: SamplerRequest, history: readonly Token[]): void {
    const { grammar } = request;
    if (grammar !== undefined && !this.#grammars) throw new Error('a grammar came before the vocabulary');
    const answer = grammar === undefined ? undefined : this.#grammars?.begin(grammar);
    this.#samplers.set(id, new GenerationSampler(request, history, this.#options, answer));
  }

  dropSampler(id: number): void {
    this.#samplers.delete(id);
  }

  copy(from: number, to: number): void {
    this.#slot(to).restore(this.#slot(from).save());
  }

  /** @returns bytes */
  save(slot: number, state: number, length: number): number {
    const keyValues = this.#slot(slot);
    keyValues.truncate(length);
    const saved = keyValues.save();
    this.#saved.set(state, saved);
    return saved.bytes;
  }

  restore(state: number, slot: number): void {
    const saved = this.#saved.get(state);
    if (!saved) throw new Error(`there is no saved state ${state}`);
    this.#slot(slot).restore(saved);
  }

  dropState(state: number): void {
    this.#saved.delete(state);
  }

  /**
   * Computes tokens of a prompt. ONNX Runtime rounds a run of one token otherwise than the same token in a longer run, and
   * which runs a prompt is cut into depends on what else goes on: a lone token is therefore computed again together with the
   * one before it, so that the same prompt and seed always give the same answer.
   */
  async #prompt(slot: KeyValues, tokens: readonly Token[]): Promise<Floats> {
    let logits: Floats = this.#work;
    for (let from = 0; from < tokens.length; from += this.#longestRun) {
      const part = tokens.slice(from, from + this.#longestRun);
      const before = slot.last;
      if (part.length === 1 && before !== undefined) {
        slot.truncate(slot.length - 1);
        part.unshift(before);
      }
      logits = await this.#run(slot, part);
    }
    return logits;
  }

  /** Computes more tokens of a slot. @returns the logits after the last, good until the next run */
  async #run(slot: KeyValues, tokens: readonly Token[]): Promise<Floats> {
    const runtime = this.#runtime;
    const { ids, mask, positions, logits, logitsWanted, hasPast, vocabularySize } = this.#spec;
    const count = tokens.length;
    const total = slot.length + count;
    if (total > this.#options.contextLength) throw new Error('a slot was to be written over its end');
    const feeds: Tensors = { [ids.name]: integers(runtime, ids, tokens, [1, count]) };
    if (mask) feeds[mask.name] = integers(runtime, mask, new Uint8Array(total).fill(1), [1, total]);
    if (positions) {
      const places = Array.from({ length: count }, (_, index) => slot.length + index);
      feeds[positions.name] = integers(runtime, positions, places, [1, count]);
    }
    if (logitsWanted) feeds[logitsWanted.name] = new runtime.Tensor('int64', BigInt64Array.of(1n), []);
    if (hasPast) feeds[hasPast.name] = new runtime.Tensor('bool', Uint8Array.of(slot.length > 0 ? 1 : 0), [1]);
    const fetches: Tensors = { [logits.name]: count === 1 ? this.#single : null };
    slot.bind(feeds, fetches);
    const results = await this.#session.run(feeds as Record<string, Tensor>, fetches);
    slot.take(results, tokens);
    const data = floatsOf(results[logits.name] as Tensor);
    return data.subarray(data.length - vocabularySize);
  }

  #slot(id: number): KeyValues {
    const slot = this.#slots[id];
    if (!slot) throw new Error(`there is no slot ${id}`);
    return slot;
  }
}
