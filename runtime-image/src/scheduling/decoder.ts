/**
 * What the scheduler needs from an engine: a fixed number of slots with a key-value cache each, one batch decoded at a
 * time, tokens sampled from its logits. Owns the types only; every engine brings its own implementation.
 */

/** Index into the model's vocabulary. */
export type Token = number;

/** What sampling gives where no token is left to choose from. */
export const NO_TOKEN = -1;

/** How the next token is picked. Every field is set: defaults belong to the APIs, which differ in them. */
export interface SamplingParams {
  /** 0 always takes the likeliest token. */
  readonly temperature: number;
  /** 0 looks at the whole vocabulary. */
  readonly topK: number;
  /** 1 switches it off. */
  readonly topP: number;
  /** 0 switches it off. */
  readonly minP: number;
  /** Unsigned 32-bit integer; the same seed and prompt give the same answer. */
  readonly seed: number;
  /** 1 switches it off. */
  readonly repeatPenalty: number;
  /** Tokens that the penalties look back on; 0 switches them off, -1 takes the whole context. */
  readonly repeatLastN: number;
  /** 0 switches it off. */
  readonly presencePenalty: number;
  /** 0 switches it off. */
  readonly frequencyPenalty: number;
  /** Added to a token's logit before anything else. */
  readonly logitBias: readonly (readonly [token: Token, bias: number])[];
}

/** The likeliest token each time, and nothing that changes which one that is. */
export const GREEDY: SamplingParams = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  seed: 1,
  repeatPenalty: 1,
  repeatLastN: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
};

/** Everything that decides on the tokens of one generation. */
export interface SamplerRequest extends SamplingParams {
  /** GBNF whose language the answer must belong to. */
  readonly grammar?: string;
  /** Alternatives to score beside each token; undefined scores nothing. */
  readonly logprobs?: number;
  /** The model may never end the answer of its own accord. */
  readonly ignoreEos?: boolean;
  /** Tokens before which the model may not end the answer. */
  readonly minTokens?: number;
}

/** A token and the natural logarithm of its probability, before any sampling setting. */
export type Score = readonly [token: Token, logprob: number];

/** What sampling gave. */
export interface Pick {
  /** NO_TOKEN where none was left to choose from. */
  readonly token: Token;
  /** Where scores were asked for. */
  readonly logprob?: number;
  /** The likeliest tokens, likeliest first. */
  readonly top?: readonly Score[];
}

/** Tokens of one slot in a batch. */
export interface BatchItem {
  readonly slot: number;
  /** Position of the first token in the slot's context. */
  readonly position: number;
  readonly tokens: readonly Token[];
  /** Whether a token will be sampled after the last of `tokens`. */
  readonly sampled: boolean;
  /**
   * How many of the last of `tokens` are guesses: a token may then be sampled after each of them, and after the one before.
   * Default 0.
   */
  readonly guesses?: number;
  /** Whether `tokens` are of a prompt; those that were sampled come one by one. */
  readonly prompt: boolean;
}

/** Random state and penalties of one generation. */
export interface TokenSampler {
  dispose(): void;
}

/** The content of a slot, kept aside. */
export interface SavedState {
  readonly bytes: number;
  /** Frees it. */
  drop(): void;
}

/** One model context with its slots. Calls never overlap: the scheduler awaits each before the next. */
export interface Decoder<Sampler extends TokenSampler = TokenSampler> {
  /** Sequences that can be decoded together. */
  readonly slots: number;
  /** Tokens that each slot holds. */
  readonly contextLength: number;
  /** Tokens in one batch; at least `slots`. */
  readonly batchSize: number;
  /** Whether it takes guesses. Default false. */
  readonly takesGuesses?: boolean;

  /** `history` is the prompt: the penalties start from its tail. */
  createSampler(request: SamplerRequest, history: readonly Token[]): Sampler;
  /** Computes one batch. Items come sorted by slot, at most one for each slot. */
  decode(items: readonly BatchItem[]): Promise<void>;
  /**
   * Samples after the last decoded batch; `item` is an index into it, and `row` counts the item's guesses before the
   * place, 0 where there are none.
   * @returns a token for each sampler, in their order; NO_TOKEN where sampling fails
   */
  sample(
    picks: readonly { readonly item: number; readonly row?: number; readonly sampler: Sampler }[],
  ): Promise<readonly Pick[]>;
  /**
   * Drops everything of a slot from position `length` on.
   * @returns the length that is left: less than `length` where the model's memory cannot be cut (recurrent models).
   */
  truncate(slot: number, length: number): number;
  /** Replaces the content of slot `to` by a copy of that of slot `from`. */
  copy(from: number, to: number): Promise<void>;
  /**
   * Takes `discard` tokens out of a slot, from position `keep` on; what follows moves up. Decoders that cannot leave this
   * out.
   * @returns false when this model's memory has no such tokens to take; nothing has changed then
   */
  shift?(slot: number, keep: number, discard: number): boolean;
  /** Keeps aside what a slot holds: `tokens`. Decoders that cannot leave this and `restore` out. */
  save?(slot: number, tokens: readonly Token[]): Promise<SavedState>;
  /** Replaces the content of a slot by a saved one. */
  restore?(saved: SavedState, slot: number): Promise<void>;
}
