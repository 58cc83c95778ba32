/**
 * Follows a grammar byte by byte. What is possible at a place is a set of positions with what they return to; sets are made
 * when they are first reached and remembered, so that the same text costs a table look-up the next time.
 */
import { GrammarError } from '../engine.ts';
import { type Automaton, parseGbnf, type State } from './gbnf-automaton.ts';

/** What may come next at a place in an answer. */
export interface Place {
  /** Whether the answer may end here. */
  readonly complete: boolean;
  /** @internal Positions where a byte is wanted. */
  readonly positions: readonly Position[];
  /** @internal By byte; undefined where nobody has asked yet, null where there is no way. */
  ways: (Place | null | undefined)[];
  /** @internal By the positions that a byte leads to. */
  readonly targets: Map<string, Place>;
}

interface Position {
  readonly state: number;
  readonly stack: Stack | undefined;
}

/** Where to go on when rules have come to their ends; equal ones are the same object. */
interface Stack {
  readonly id: number;
  readonly back: number;
  readonly below: Stack | undefined;
}

/** Places that are remembered; each takes up to 3 kB. */
const MOST_PLACES = 2048;
/** Positions that a place may have: a grammar that can be read in more ways at once is not worth its memory. */
const MOST_POSITIONS = 5000;

export class ByteGrammar {
  /** Where every answer begins. */
  readonly start: Place;
  readonly #automaton: Automaton;
  readonly #places = new Map<string, Place>();
  readonly #stacks = new Map<string, Stack>();
  /** Ids are never used twice, also when everything was forgotten. */
  #nextStack = 1;

  /** @throws GrammarError */
  constructor(gbnf: string) {
    this.#automaton = parseGbnf(gbnf);
    this.start = this.#place([{ state: this.#automaton.rules[0]?.start ?? 0, stack: undefined }]);
  }

  /** How much memory it takes, in states of its automaton. */
  get size(): number {
    return this.#automaton.states.length;
  }

  /**
   * @returns undefined when no answer goes on with this byte
   * @throws GrammarError when the grammar is too ambiguous to be followed
   */
  after(place: Place, byte: number): Place | undefined {
    const known = place.ways[byte];
    if (known !== undefined) return known ?? undefined;
    const targets: Position[] = [];
    let name = '';
    for (const { state, stack } of place.positions) {
      const { bytes } = this.#state(state);
      for (let at = 0; at < bytes.length; at += 3)
        if (byte >= (bytes[at] as number) && byte <= (bytes[at + 1] as number)) {
          const target = bytes[at + 2] as number;
          targets.push({ state: target, stack });
          name += `${target}.${stack?.id ?? 0} `;
        }
    }
    if (targets.length === 0) {
      place.ways[byte] = null;
      return undefined;
    }
    // Most bytes lead where others do.
    let next = place.targets.get(name);
    if (!next) {
      next = this.#place(targets);
      place.targets.set(name, next);
    }
    place.ways[byte] = next;
    return next;
  }

  /** The place that is reached from `from` without a byte. */
  #place(from: readonly Position[]): Place {
    const seen = new Map<string, Position>();
    const left = [...from];
    let complete = false;
    const wanting: string[] = [];
    for (let position = left.pop(); position; position = left.pop()) {
      const key = `${position.state}.${position.stack?.id ?? 0}`;
      if (seen.has(key)) continue;
      seen.set(key, position);
      if (seen.size > MOST_POSITIONS)
        throw new GrammarError('the grammar can be read in too many ways at once: make its rules less ambiguous');
      const { free, bytes, call } = this.#state(position.state);
      if (bytes.length > 0) wanting.push(key);
      for (const state of free) left.push({ state, stack: position.stack });
      if (call) left.push(this.#entered(call.rule, call.back, position.stack));
      else if (this.#ends.has(position.state)) {
        if (position.stack) left.push({ state: position.stack.back, stack: position.stack.below });
        else complete = true;
      }
    }
    const name = `${wanting.sort().join(' ')}${complete ? ' end' : ''}`;
    const known = this.#places.get(name);
    if (known) return known;
    if (this.#places.size >= MOST_PLACES) this.#forget();
    const place: Place = {
      complete,
      positions: wanting.map((key) => seen.get(key) as Position),
      ways: [],
      targets: new Map(),
    };
    this.#places.set(name, place);
    return place;
  }

  #entered(rule: number, back: number, below: Stack | undefined): Position {
    const state = this.#automaton.rules[rule]?.start ?? 0;
    // Where nothing follows, the return would only lead to another return.
    if (this.#automaton.final[back] === true) return { state, stack: below };
    const name = `${back}.${below?.id ?? 0}`;
    let stack = this.#stacks.get(name);
    if (!stack) {
      stack = { id: this.#nextStack++, back, below };
      this.#stacks.set(name, stack);
    }
    return { state, stack };
  }

  /** Answers in the making keep the places they are at, and find their ways anew. */
  #forget(): void {
    for (const place of this.#places.values()) {
      place.ways = [];
      place.targets.clear();
    }
    this.#places.clear();
    this.#stacks.clear();
  }

  get #ends(): ReadonlySet<number> {
    return (this.#endsFound ??= new Set(this.#automaton.rules.map(({ end }) => end)));
  }
  #endsFound: ReadonlySet<number> | undefined;

  #state(number: number): State {
    return this.#automaton.states[number] as State;
  }
}
