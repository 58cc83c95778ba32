/**
 * What a Modelfile, or its fields elsewhere, makes of a model: settings that hold where a request has none of its own.
 */
import type { ChatMessage } from '../chat-template.ts';
import type { Options } from '../schemas/ollama.ts';

export interface ModelDefaults {
  /** Under Ollama's names; a request's own win. */
  readonly parameters: Options;
  /** Stands first where a conversation has no system message. */
  readonly system?: string;
  /** In Go's syntax; replaces the model's own. */
  readonly template?: string;
  /** Stand before every conversation. */
  readonly messages: readonly Pick<ChatMessage, 'role' | 'content'>[];
  /** Texts of licences. */
  readonly license: readonly string[];
  /** Files of LoRA adapters. */
  readonly adapters: readonly string[];
}

/** Tokens to generate where a request says nothing; Infinity for as many as fit. */
export function maxTokensOf({ parameters }: ModelDefaults): number {
  const predict = parameters.num_predict ?? -1;
  return predict < 0 ? Number.POSITIVE_INFINITY : predict;
}

/** A model as its file has it. */
export const NO_DEFAULTS: ModelDefaults = { parameters: {}, messages: [], license: [], adapters: [] };
