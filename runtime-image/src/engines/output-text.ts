/**
 * Turns generated tokens into text that may be sent: whole characters only, and never a stop text or the beginning of
 * one. Owns the tokens and characters it holds back.
 */
import type { Token } from '../scheduling/decoder.ts';

/** What stands for bytes that are no whole character yet. */
const REPLACEMENT = '\ufffd';
/** A character has at most four bytes, each at worst a token; more pending tokens than that are no valid text. */
const LONGEST_CHARACTER = 4;
/** Tokenizers of the SentencePiece family write the space before a word only when something stands before it. */
const LOOK_BACK = 4;

export interface Detokenizer {
  /** Text of `tokens` as it reads after `previous`. */
  (tokens: readonly Token[], previous: readonly Token[]): string;
}

export class OutputText {
  readonly #detokenize: Detokenizer;
  readonly #stops: readonly string[];
  #previous: Token[];
  #pending: Token[] = [];
  /** Text that may be the beginning of a stop text. */
  #held = '';
  #released = 0;
  #met: string | undefined;

  /**
   * @param prompt what the answer follows
   * @param stops texts that end the answer; none may be empty
   */
  constructor(detokenize: Detokenizer, prompt: readonly Token[], stops: readonly string[]) {
    this.#detokenize = detokenize;
    this.#stops = stops;
    this.#previous = prompt.slice(-LOOK_BACK);
  }

  /** The stop text that was met. */
  get met(): string | undefined {
    return this.#met;
  }

  /** Length of the text that was given out. */
  get released(): number {
    return this.#released;
  }

  /** Length of the text of every whole character so far, given out or held back: where the next token's text begins. */
  get decoded(): number {
    return this.#released + this.#held.length;
  }

  /** @returns what may be sent now, and whether a stop text was met. */
  push(token: Token): { text: string; stopped: boolean } {
    this.#pending.push(token);
    const text = this.#detokenize(this.#pending, this.#previous);
    if (text.endsWith(REPLACEMENT) && this.#pending.length < LONGEST_CHARACTER) return { text: '', stopped: false };
    this.#take();
    return this.#release(text);
  }

  /** @returns what is still held back; call once at the end, unless a stop text was met. */
  end(): string {
    // Bytes of a character that never came to its end are dropped: they are no text.
    const rest = this.#pending.length === 0 ? '' : this.#detokenize(this.#pending, this.#previous);
    this.#take();
    const { text } = this.#release(rest.replace(/\ufffd+$/, ''));
    const held = this.#held;
    this.#held = '';
    this.#released += held.length;
    return text + held;
  }

  #take(): void {
    this.#previous = [...this.#previous, ...this.#pending].slice(-LOOK_BACK);
    this.#pending = [];
  }

  #release(added: string): { text: string; stopped: boolean } {
    const text = this.#held + added;
    this.#held = '';
    let cut = -1;
    for (const stop of this.#stops) {
      const found = text.indexOf(stop);
      if (found < 0 || (cut >= 0 && found >= cut)) continue;
      cut = found;
      this.#met = stop;
    }
    if (cut >= 0) {
      this.#released += cut;
      return { text: text.slice(0, cut), stopped: true };
    }
    const keep = Math.max(0, ...this.#stops.map((stop) => overlap(text, stop)));
    this.#held = text.slice(text.length - keep);
    this.#released += text.length - keep;
    return { text: text.slice(0, text.length - keep), stopped: false };
  }
}

/** Length of the longest end of `text` that begins `stop`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--)
    if (text.endsWith(stop.slice(0, length))) return length;
  return 0;
}
