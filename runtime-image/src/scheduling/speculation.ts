/**
 * Guesses at the next tokens of an answer, from what was said before: text that is copied, edited or listed repeats itself.
 * Owns the guesses of one request and how many of them are worth their computing; whoever asks verifies them.
 */
import type { Token } from './decoder.ts';

/** Tokens that must be the same before what followed them is guessed again: fewer match by chance. */
const LENGTH = 3;
/** Weight of a new verification in the running share of right guesses. */
const WEIGHT = 0.25;
/** Share of right guesses below which guessing costs more than it saves. */
const WORTHWHILE = 0.35;
/** Opportunities that pass by after that, before another try. */
const PAUSE = 24;
/** Guesses of such a try. */
const TRY = 2;

export class Speculation {
  readonly #most: number;
  readonly #tokens: Token[] = [];
  /** Where the tokens after each group of tokens begin: the last place. By hash; the tokens themselves decide. */
  readonly #places = new Map<number, number>();
  /** Running; the first guesses are few until some were right. */
  #share = 0.5;
  #pause = 0;

  /** @param most tokens guessed at a time */
  constructor(history: readonly Token[], most: number) {
    this.#most = most;
    for (const token of history) this.push(token);
  }

  /** The text went on. */
  push(token: Token): void {
    // What follows a group is known one token later, and the group at the very end must not find itself.
    if (this.#tokens.length >= LENGTH) this.#places.set(this.#hash(), this.#tokens.length);
    this.#tokens.push(token);
  }

  /** @returns at most `limit` guesses; often none */
  guess(limit: number): readonly Token[] {
    if (limit <= 0 || this.#tokens.length <= LENGTH) return [];
    const place = this.#places.get(this.#hash());
    if (place === undefined || !this.#matches(place)) return [];
    if (this.#share < WORTHWHILE && this.#pause-- > 0) return [];
    const wanted = this.#share < WORTHWHILE ? TRY : Math.ceil(this.#share * this.#most);
    const count = Math.min(Math.max(TRY, wanted), this.#most, limit);
    return this.#tokens.slice(place, place + count);
  }

  /** Tells how many of the last guesses were right. */
  learn(guessed: number, right: number): void {
    if (guessed === 0) return;
    this.#share += WEIGHT * (right / guessed - this.#share);
    if (this.#share < WORTHWHILE) this.#pause = PAUSE;
  }

  /** Of the last tokens. */
  #hash(): number {
    let hash = 0;
    for (let at = this.#tokens.length - LENGTH; at < this.#tokens.length; at++)
      hash = (Math.imul(hash, 0x9e37_79b1) + (this.#tokens[at] ?? 0)) | 0;
    return hash;
  }

  #matches(place: number): boolean {
    for (let back = 1; back <= LENGTH; back++)
      if (this.#tokens[place - back] !== this.#tokens[this.#tokens.length - back]) return false;
    return true;
  }
}

/** Streams beside each other leave the processor nothing to spare: beyond so many, each guess costs another's token. */
const MOST_STREAMS = 3;

/** Guesses that each of so many running streams may have verified in one batch. */
export function guessesEach(most: number, streams: number): number {
  return streams === 0 || streams > MOST_STREAMS ? 0 : Math.floor(most / streams);
}
