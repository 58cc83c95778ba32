/**
 * A deterministic engine for tests: it answers `You said: …` with the last message, byte by byte, through the real
 * scheduler. Its decoder keeps what every slot was given and refuses what a real one would silently get wrong.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type {
  BatchItem,
  Decoder,
  Pick,
  SamplerRequest,
  SavedState,
  Token,
  TokenSampler,
} from '../scheduling/decoder.ts';
import { BatchedEngine } from './batched-engine.ts';
import { type Capabilities, type Engine, type EngineInfo, PromptTooLongError } from './engine.ts';

/** Bytes are tokens; these come after them. */
const END = 256;
const BEGIN = 257;
const ROLES = ['system', 'user', 'assistant'] as const;
const roleToken = (role: (typeof ROLES)[number]) => 258 + ROLES.indexOf(role);
const SPECIAL: readonly (readonly [string, Token])[] = [
  ['<|end|>', END],
  ['<|begin|>', BEGIN],
  ...ROLES.map((role) => [`<|${role}|>`, roleToken(role)] as const),
];
const TEMPLATE =
  '{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}' +
  '{% if add_generation_prompt %}<|assistant|>{% endif %}';

/** Decides the next token from everything before it. */
export type NextToken = (tokens: readonly Token[], params: SamplerRequest) => Token;

interface FakeState extends SavedState {
  readonly content: readonly Token[];
}

interface FakeSampler extends TokenSampler {
  readonly params: SamplerRequest;
  disposed: boolean;
}

export interface FakeDecoderOptions {
  readonly slots: number;
  readonly contextLength: number;
  readonly batchSize: number;
  readonly next: NextToken;
  /** Awaited in each batch: tests hold or fail the decoder with it. */
  readonly beforeDecode?: (items: readonly BatchItem[]) => Promise<void> | void;
}

/** Waits for so many turns of the event loop: a moment without a clock. */
export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await nextTurn();
}

/** Keeps each slot's tokens and checks every call. */
export class FakeDecoder implements Decoder<FakeSampler> {
  readonly slots: number;
  readonly contextLength: number;
  readonly batchSize: number;
  readonly takesGuesses = true;
  readonly contents: Token[][];
  /** Samplers that nobody disposed. */
  liveSamplers = 0;
  /** States that nobody dropped. */
  savedStates = 0;
  readonly #options: FakeDecoderOptions;
  #last: readonly BatchItem[] = [];
  #busy = false;

  constructor(options: FakeDecoderOptions) {
    this.#options = options;
    this.slots = options.slots;
    this.contextLength = options.contextLength;
    this.batchSize = options.batchSize;
    this.contents = Array.from({ length: options.slots }, () => []);
  }

  createSampler(params: SamplerRequest): FakeSampler {
    this.liveSamplers++;
    const sampler: FakeSampler = {
      params,
      disposed: false,
      dispose: () => {
        if (sampler.disposed) throw new Error('a sampler was disposed twice');
        sampler.disposed = true;
        this.liveSamplers--;
      },
    };
    return sampler;
  }

  async decode(items: readonly BatchItem[]): Promise<void> {
    await this.#alone(async () => {
      const total = items.reduce((sum, item) => sum + item.tokens.length, 0);
      if (total === 0 || total > this.batchSize) throw new Error(`a batch of ${total} tokens`);
      items.forEach((item, index) => {
        if (index > 0 && (items[index - 1]?.slot ?? 0) >= item.slot) throw new Error('a batch is not sorted by slot');
        const content = this.#content(item.slot);
        if (item.position !== content.length)
          throw new Error(`slot ${item.slot} holds ${content.length} tokens and was written at ${item.position}`);
        if (content.length + item.tokens.length > this.contextLength)
          throw new Error('a slot was written over its end');
      });
      await this.#options.beforeDecode?.(items);
      for (const item of items) this.#content(item.slot).push(...item.tokens);
      this.#last = items;
    });
  }

  async sample(
    picks: readonly { readonly item: number; readonly row?: number; readonly sampler: FakeSampler }[],
  ): Promise<readonly Pick[]> {
    return this.#alone(() =>
      Promise.resolve(
        picks.map(({ item, row = 0, sampler }) => {
          const decoded = this.#last[item];
          if (!decoded?.sampled) throw new Error('sampled where no logits were asked for');
          if (sampler.disposed) throw new Error('sampled with a disposed sampler');
          const { position, tokens, guesses = 0 } = decoded;
          if (row > guesses) throw new Error('sampled after a guess that was not made');
          const before = this.#content(decoded.slot).slice(0, position + tokens.length - guesses + row);
          const token = this.#options.next(before, sampler.params);
          const { logprobs } = sampler.params;
          if (logprobs === undefined) return { token };
          // Half as likely from one to the next, the chosen one first.
          const top = Array.from(
            { length: logprobs },
            (_, rank) => [(token + rank) % 256, -Math.LN2 * (rank + 1)] as const,
          );
          return { token, logprob: -Math.LN2, top };
        }),
      ),
    );
  }

  truncate(slot: number, length: number): number {
    if (this.#busy) throw new Error('a slot was cut while a batch was computed');
    const content = this.#content(slot);
    content.length = Math.min(content.length, length);
    return content.length;
  }

  shift(slot: number, keep: number, discard: number): boolean {
    if (this.#busy) throw new Error('a slot was shifted while a batch was computed');
    const content = this.#content(slot);
    if (keep + discard > content.length) throw new Error('a shift takes more than the slot holds');
    content.splice(keep, discard);
    return true;
  }

  async copy(from: number, to: number): Promise<void> {
    await this.#alone(() => {
      this.contents[to] = this.#content(from).slice();
      return Promise.resolve();
    });
  }

  async save(slot: number, tokens: readonly Token[]): Promise<FakeState> {
    return this.#alone(() => {
      const content = this.#content(slot).slice();
      if (content.join() !== tokens.join()) throw new Error(`slot ${slot} does not hold what is to be saved`);
      this.savedStates++;
      return Promise.resolve({ content, bytes: content.length, drop: () => void this.savedStates-- });
    });
  }

  async restore(saved: SavedState, slot: number): Promise<void> {
    await this.#alone(() => {
      this.contents[slot] = (saved as FakeState).content.slice();
      return Promise.resolve();
    });
  }

  async #alone<T>(work: () => Promise<T>): Promise<T> {
    if (this.#busy) throw new Error('two calls at once');
    this.#busy = true;
    try {
      return await work();
    } finally {
      this.#busy = false;
    }
  }

  #content(slot: number): Token[] {
    const content = this.contents[slot];
    if (!content) throw new Error(`there is no slot ${slot}`);
    return content;
  }
}

export interface FakeEngineOptions {
  /** What the engine claims to be able to do; default: everything. */
  readonly capabilities?: Partial<Capabilities>;
  /** Default 512. */
  readonly contextLength?: number;
  /** Default 2. */
  readonly parallelRequests?: number;
  /** Default 64. */
  readonly batchSize?: number;
  /** Default 64. */
  readonly maxQueue?: number;
  /** Default: one that has a template. */
  readonly chatTemplate?: string | null;
  readonly beforeDecode?: FakeDecoderOptions['beforeDecode'];
  /** Default: the processor. */
  readonly device?: EngineInfo['device'];
  readonly memory?: EngineInfo['memory'];
}

/** @returns an engine that answers at once. */
export function createFakeEngine(options: FakeEngineOptions = {}): Engine {
  const contextLength = options.contextLength ?? 512;
  const parallelRequests = options.parallelRequests ?? 2;
  const batchSize = Math.max(options.batchSize ?? 64, parallelRequests);
  const chatTemplate = options.chatTemplate === undefined ? TEMPLATE : options.chatTemplate;
  const decoder = new FakeDecoder({
    slots: parallelRequests,
    contextLength,
    batchSize,
    next: echo,
    ...(options.beforeDecode ? { beforeDecode: options.beforeDecode } : {}),
  });
  return new BatchedEngine({
    info: {
      engine: 'fake',
      device: options.device ?? { class: 'cpu', backend: 'CPU', name: 'fake' },
      ...(options.memory === undefined ? {} : { memory: options.memory }),
      backend: 'fake 1',
      threads: 1,
      contextLength,
      parallelRequests,
      batchSize,
      capabilities: {
        generate: true,
        embed: true,
        grammar: true,
        logprobs: true,
        shift: true,
        rank: true,
        ...options.capabilities,
      },
      model: {
        format: 'gguf',
        architecture: 'fake',
        parameters: 135_000_000,
        quantization: 'Q4_1',
        size: 1000,
        trainedContextLength: 8192,
        embeddingLength: 64,
        vocabularySize: 258 + ROLES.length,
        ...(chatTemplate === null ? {} : { chatTemplate }),
        bosToken: '<|begin|>',
        eosToken: '<|end|>',
      },
    },
    decoder,
    vocabulary: {
      tokenize,
      detokenize,
      isEndOfGeneration: (token) => token === END,
      beginning: [BEGIN],
      bytesOf: (token) =>
        token < 256 ? Uint8Array.of(token) : Buffer.from(SPECIAL.find(([, id]) => id === token)?.[0] ?? ''),
      controlTokens: () => SPECIAL.map(([text]) => text),
    },
    checkGrammar: () => undefined,
    embedder: {
      embed: (inputs, { normalize, truncate }) => embed(inputs, contextLength, normalize !== false, truncate === true),
    },
    ranker: { rank: (query, documents) => rank(query, documents) },
    maxQueue: options.maxQueue ?? 64,
    dispose: () => Promise.resolve(),
  });
}

function tokenize(text: string, special: boolean): Token[] {
  if (!special) return [...Buffer.from(text)];
  const tokens: Token[] = [];
  for (const piece of text.split(/(<\|[a-z]+\|>)/)) {
    const known = SPECIAL.find(([name]) => name === piece);
    if (known) tokens.push(known[1]);
    else tokens.push(...Buffer.from(piece));
  }
  return tokens;
}

function detokenize(tokens: readonly Token[]): string {
  return Buffer.from(tokens.filter((token) => token < 256)).toString();
}

/** Counts bytes into 64 boxes: equal texts give equal vectors, and similar ones similar. */
async function embed(
  inputs: readonly (string | readonly Token[])[],
  contextLength: number,
  normalize: boolean,
  truncate: boolean,
): Promise<{ embeddings: Float32Array[]; promptTokens: number }> {
  let promptTokens = 0;
  const embeddings = inputs.map((input) => {
    const all = [BEGIN, ...(typeof input === 'string' ? tokenize(input, false) : input)];
    if (all.length > contextLength && !truncate) throw new PromptTooLongError(all.length, contextLength);
    const tokens = all.slice(0, contextLength);
    promptTokens += tokens.length;
    const vector = new Float32Array(64);
    for (const token of tokens) vector[token % 64] = (vector[token % 64] ?? 0) + 1;
    const length = Math.hypot(...vector);
    return normalize ? vector.map((value) => value / length) : vector;
  });
  return Promise.resolve({ embeddings, promptTokens });
}

/** The share of the query's words that a document has. */
async function rank(query: string, documents: readonly string[]): Promise<{ scores: number[]; promptTokens: number }> {
  const words = query.split(' ');
  return Promise.resolve({
    scores: documents.map(
      (document) => words.filter((word) => document.split(' ').includes(word)).length / words.length,
    ),
    promptTokens: documents.reduce((sum, document) => sum + query.length + document.length, 0),
  });
}

/** Says back what stands between the last two role tokens; goes through the alphabet where there are none. */
function echo(tokens: readonly Token[], params: SamplerRequest): Token {
  const token = answerOf(tokens, params.grammar !== undefined);
  // A fake of keeping on: it says dots where it would have ended.
  const generated = tokens.length - tokens.lastIndexOf(roleToken('assistant')) - 1;
  const goesOn = params.ignoreEos === true || generated < (params.minTokens ?? 0);
  return token === END && goesOn ? 46 : token;
}

/** With a grammar the answer is a JSON object, whatever the grammar. */
function answerOf(tokens: readonly Token[], json: boolean): Token {
  const answerAt = tokens.lastIndexOf(roleToken('assistant'));
  if (answerAt < 0) return tokens.length % 16 === 0 ? END : 97 + (tokens.length % 26);
  let from = answerAt - 1;
  while (from >= 0 && (tokens[from] ?? 0) < 258) from--;
  const said = tokens.slice(from + 1, answerAt).filter((token) => token < 256);
  const answer = json
    ? [...Buffer.from(JSON.stringify({ said: Buffer.from(said).toString() }))]
    : [...Buffer.from('You said: '), ...said];
  return answer[tokens.length - answerAt - 1] ?? END;
}
