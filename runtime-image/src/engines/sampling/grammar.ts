/**
 * Holds answers to a grammar: which tokens may come next. Owns the masks of a grammar, which all answers that follow it
 * share, and the cache of grammars that were read.
 */
import type { Token } from '../../scheduling/decoder.ts';
import { ByteGrammar, type Place } from './byte-grammar.ts';
import type { TokenOrder } from './token-order.ts';

/** Masks kept for one grammar; each has a bit for each token. */
const KEPT_MASKS = 128;
/** Grammars that stay read: clients send the same few again and again. */
const KEPT_GRAMMARS = 16;
/** States that these have together, but for the last grammar; some 200 bytes each. */
const KEPT_STATES = 300_000;

/** A grammar over one vocabulary. */
export class TokenGrammar {
  readonly grammar: ByteGrammar;
  readonly tokens: TokenOrder;
  readonly endTokens: ReadonlySet<Token>;
  readonly #masks = new Map<Place, Uint8Array>();

  /** @throws GrammarError */
  constructor(gbnf: string, tokens: TokenOrder, endTokens: ReadonlySet<Token>) {
    this.grammar = new ByteGrammar(gbnf);
    this.tokens = tokens;
    this.endTokens = endTokens;
  }

  /** @returns undefined when no answer goes on with that token */
  after(place: Place, token: Token): Place | undefined {
    const bytes = this.tokens.bytesOf(token);
    if (bytes.length === 0) return undefined;
    let at: Place | undefined = place;
    for (let index = 0; at && index < bytes.length; index++) at = this.grammar.after(at, bytes[index] as number);
    return at;
  }

  /** @returns a bit for each token, set where the answer may go on with it */
  maskAt(place: Place): Uint8Array {
    const known = this.#masks.get(place);
    if (known) return known;
    const mask = this.#maskAt(place);
    const [oldest] = this.#masks.keys();
    if (this.#masks.size >= KEPT_MASKS && oldest) this.#masks.delete(oldest);
    this.#masks.set(place, mask);
    return mask;
  }

  #maskAt(place: Place): Uint8Array {
    const { sorted, shared } = this.tokens;
    const mask = new Uint8Array(Math.ceil(this.tokens.size / 8));
    const allow = (token: Token) => {
      mask[token >> 3] = (mask[token >> 3] as number) | (1 << (token & 7));
    };
    /** Places after each byte of the token before. */
    const way: Place[] = [place];
    /** Bytes of it that there was a way for. */
    let passed = 0;
    for (let index = 0; index < sorted.length; index++) {
      const token = sorted[index] as Token;
      const common = shared[index] as number;
      // It begins with the bytes that the one before it failed with.
      if (common > passed) continue;
      const bytes = this.tokens.bytesOf(token);
      passed = common;
      while (passed < bytes.length) {
        const next = this.grammar.after(way[passed] as Place, bytes[passed] as number);
        if (!next) break;
        way[++passed] = next;
      }
      if (passed === bytes.length) allow(token);
    }
    if (place.complete) for (const token of this.endTokens) if (token < this.tokens.size) allow(token);
    return mask;
  }
}

/** How far one answer has come in its grammar. */
export class AnswerGrammar {
  readonly #grammar: TokenGrammar;
  #place: Place | undefined;

  constructor(grammar: TokenGrammar) {
    this.#grammar = grammar;
    this.#place = grammar.grammar.start;
  }

  allows(token: Token): boolean {
    if (!this.#place) return false;
    if (this.#grammar.endTokens.has(token)) return this.#place.complete;
    return this.#grammar.after(this.#place, token) !== undefined;
  }

  /** Rules out every token that does not fit. */
  mask(logits: Float32Array): void {
    const allowed = this.#place && this.#grammar.maskAt(this.#place);
    for (let token = 0; token < logits.length; token++)
      if (!allowed || ((allowed[token >> 3] ?? 0) & (1 << (token & 7))) === 0) logits[token] = Number.NEGATIVE_INFINITY;
  }

  accept(token: Token): void {
    if (!this.#place || this.#grammar.endTokens.has(token)) return;
    this.#place = this.#grammar.after(this.#place, token);
  }
}

/** Reads each grammar once. */
export class GrammarCache {
  readonly #grammars = new Map<string, TokenGrammar>();
  readonly #tokens: TokenOrder;
  readonly #endTokens: ReadonlySet<Token>;

  constructor(tokens: TokenOrder, endTokens: Iterable<Token>) {
    this.#tokens = tokens;
    this.#endTokens = new Set(endTokens);
  }

  /** @returns the state of an answer that begins. @throws GrammarError */
  begin(gbnf: string): AnswerGrammar {
    const grammar = this.#grammars.get(gbnf) ?? new TokenGrammar(gbnf, this.#tokens, this.#endTokens);
    this.#grammars.delete(gbnf);
    this.#grammars.set(gbnf, grammar);
    let states = 0;
    for (const one of this.#grammars.values()) states += one.grammar.size;
    for (const [text, one] of this.#grammars) {
      if (one === grammar || (this.#grammars.size <= KEPT_GRAMMARS && states <= KEPT_STATES)) break;
      this.#grammars.delete(text);
      states -= one.grammar.size;
    }
    return new AnswerGrammar(grammar);
  }
}
