/**
 * What the engine and its thread say to each other. ONNX Runtime's Node binding computes on the thread that calls it; on a
 * thread of its own it holds up neither requests nor probes.
 */

import type { DeviceOrder, Missed } from '../../devices.ts';
import type { BatchItem, Pick, SamplerRequest, Token } from '../../scheduling/decoder.ts';
import type { PackedVocabulary } from '../sampling/token-order.ts';
import type { EmbeddingSpec, LanguageSpec } from './model-spec.ts';
import type { ProviderName } from './providers.ts';
import type { Pooling } from './settings.ts';

/** What the thread is started with. */
export interface ThreadOptions {
  readonly file: string;
  readonly spec: LanguageSpec | EmbeddingSpec;
  readonly threads: number;
  /** What to compute on, the best first. */
  readonly devices: DeviceOrder;
  /** Of a language model. */
  readonly slots: number;
  readonly contextLength: number;
  readonly endTokens: readonly Token[];
  /** Of a model that embeds. */
  readonly pooling: Pooling;
}

/** Told when the model is loaded. */
export interface Opened {
  /** ONNX Runtime's version. */
  readonly version: string;
  /** What computes. */
  readonly provider: ProviderName;
  /** What was tried before in vain. */
  readonly missed: readonly Missed[];
}

export interface SampleRequest {
  /** Index into the last batch. */
  readonly item: number;
  readonly sampler: number;
}

/** Calls with an answer. */
export interface Calls {
  open(): Promise<Opened>;
  decode(items: readonly BatchItem[]): void;
  sample(picks: readonly SampleRequest[]): readonly Pick[];
  copy(from: number, to: number): void;
  /** @param length tokens of the slot. @returns bytes */
  save(slot: number, state: number, length: number): number;
  restore(state: number, slot: number): void;
  /** @param tokens with those that begin and end a text */
  embed(tokens: readonly Token[]): Float32Array;
  close(): Promise<void>;
}

/** Notes without an answer; they come in order with the calls. */
export interface Notes {
  vocabulary(packed: PackedVocabulary): void;
  addSampler(sampler: number, request: SamplerRequest, history: readonly Token[]): void;
  dropSampler(sampler: number): void;
  dropState(state: number): void;
}

/** To the thread; notes have no id. */
export type Message =
  | {
      [Name in keyof Calls]: { readonly id: number; readonly name: Name; readonly args: Parameters<Calls[Name]> };
    }[keyof Calls]
  | { [Name in keyof Notes]: { readonly name: Name; readonly args: Parameters<Notes[Name]> } }[keyof Notes];

/** From the thread. */
export type Reply =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: { readonly name: string; readonly message: string } };
