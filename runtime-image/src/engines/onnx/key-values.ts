/**
 * Keys and values of one slot between runs. Owns their memory in the two ways that models want it: one buffer of the whole
 * context that the attention writes into, or tensors that are replaced by longer ones at every run.
 */
import type { Tensor } from 'onnxruntime-node';
import type { Token } from '../../scheduling/decoder.ts';
import type { CacheSpec } from './model-spec.ts';
import { type Floats, floatsOf, floatTensor, makeFloats, type Runtime } from './session.ts';

/** The content of a slot, kept aside: for each cache its heads one after another, without gaps. */
export interface SavedKeyValues {
  readonly tokens: readonly Token[];
  readonly caches: readonly Floats[];
  readonly bytes: number;
}

/** What a run is given and what it gives, by the names of inputs and outputs. */
export type Tensors = Record<string, Tensor | null>;

export abstract class KeyValues {
  protected readonly runtime: Runtime;
  protected readonly specs: readonly CacheSpec[];
  #tokens: Token[] = [];

  constructor(runtime: Runtime, specs: readonly CacheSpec[]) {
    this.runtime = runtime;
    this.specs = specs;
  }

  /** Tokens that are in it. */
  get length(): number {
    return this.#tokens.length;
  }

  /** The last token that is in it. */
  get last(): Token | undefined {
    return this.#tokens.at(-1);
  }

  /** Forgets what lies behind the first `length` tokens. */
  truncate(length: number): void {
    if (length >= this.length) return;
    this.cut(length);
    this.#tokens.length = length;
  }

  /** Adds to a run's inputs what is in it, and to its outputs where they are to go; null leaves that to ONNX Runtime. */
  abstract bind(feeds: Tensors, fetches: Tensors): void;

  /** Takes over what a run of more tokens gave. */
  take(results: Readonly<Record<string, Tensor>>, tokens: readonly Token[]): void {
    this.keep(results);
    this.#tokens.push(...tokens);
  }

  save(): SavedKeyValues {
    const caches = this.specs.map((spec, index) => {
      const saved = makeFloats(spec.type, spec.heads * this.length * spec.width);
      this.eachHead(index, (data, from, head) => {
        const size = this.length * spec.width;
        saved.set(data.subarray(from, from + size), head * size);
      });
      return saved;
    });
    return { tokens: this.#tokens.slice(), caches, bytes: caches.reduce((sum, one) => sum + one.byteLength, 0) };
  }

  restore(saved: SavedKeyValues): void {
    this.load(saved);
    this.#tokens = saved.tokens.slice();
  }

  protected abstract cut(length: number): void;
  protected abstract keep(results: Readonly<Record<string, Tensor>>): void;
  protected abstract load(saved: SavedKeyValues): void;
  /** Calls with where each head of a cache begins. */
  protected abstract eachHead(cache: number, visit: (data: Floats, from: number, head: number) => void): void;
}

/** For attention that writes new tokens into the past: one buffer for each cache, for as long as the slot lives. */
export class SharedKeyValues extends KeyValues {
  readonly #contextLength: number;
  readonly #tensors: readonly Tensor[];

  constructor(runtime: Runtime, specs: readonly CacheSpec[], contextLength: number) {
    super(runtime, specs);
    this.#contextLength = contextLength;
    this.#tensors = specs.map(({ type, heads, width }) =>
      floatTensor(runtime, type, makeFloats(type, heads * contextLength * width), [1, heads, contextLength, width]),
    );
  }

  bind(feeds: Tensors, fetches: Tensors): void {
    this.specs.forEach(({ past, present }, index) => {
      const tensor = this.#tensors[index] ?? null;
      feeds[past] = tensor;
      fetches[present] = tensor;
    });
  }

  // What lies behind the length is never read.
  protected cut(): void {}
  protected keep(): void {}

  protected load({ tokens, caches }: SavedKeyValues): void {
    this.specs.forEach(({ width }, index) => {
      const size = tokens.length * width;
      this.eachHead(index, (data, from, head) =>
        data.set(caches[index]?.subarray(head * size, (head + 1) * size) as Float32Array, from),
      );
    });
  }

  protected eachHead(cache: number, visit: (data: Floats, from: number, head: number) => void): void {
    const { heads, width } = this.specs[cache] as CacheSpec;
    const data = floatsOf(this.#tensors[cache] as Tensor);
    for (let head = 0; head < heads; head++) visit(data, head * this.#contextLength * width, head);
  }
}

/** For attention that gives back the past with the new tokens behind it. */
export class GrowingKeyValues extends KeyValues {
  #tensors: readonly Tensor[];
  #held = 0;

  constructor(runtime: Runtime, specs: readonly CacheSpec[]) {
    super(runtime, specs);
    this.#tensors = this.#from(
      0,
      specs.map(({ type }) => makeFloats(type, 0)),
    );
  }

  bind(feeds: Tensors, fetches: Tensors): void {
    this.specs.forEach(({ past, present }, index) => {
      feeds[past] = this.#tensors[index] ?? null;
      fetches[present] = null;
    });
  }

  protected cut(length: number): void {
    const caches = this.specs.map(({ type, heads, width }, index) => {
      const kept = makeFloats(type, heads * length * width);
      this.eachHead(index, (data, from, head) => {
        const size = length * width;
        kept.set(data.subarray(from, from + size), head * size);
      });
      return kept;
    });
    this.#tensors = this.#from(length, caches);
  }

  protected keep(results: Readonly<Record<string, Tensor>>): void {
    this.#tensors = this.specs.map(({ present }) => results[present] as Tensor);
    this.#held = this.#tensors[0]?.dims[2] ?? 0;
  }

  protected load(saved: SavedKeyValues): void {
    // Copied: runs may not write into what others restore as well.
    this.#tensors = this.#from(
      saved.tokens.length,
      saved.caches.map((one, index) => {
        const copy = makeFloats(this.specs[index]?.type ?? 'float32', one.length);
        copy.set(one);
        return copy;
      }),
    );
  }

  protected eachHead(cache: number, visit: (data: Floats, from: number, head: number) => void): void {
    const { heads, width } = this.specs[cache] as CacheSpec;
    const data = floatsOf(this.#tensors[cache] as Tensor);
    for (let head = 0; head < heads; head++) visit(data, head * this.#held * width, head);
  }

  #from(length: number, caches: readonly Floats[]): Tensor[] {
    this.#held = length;
    return this.specs.map(({ type, heads, width }, index) =>
      floatTensor(this.runtime, type, caches[index] as Floats, [1, heads, length, width]),
    );
  }
}
