/**
 * What was computed for prompts whose slot is gone, within a budget of memory: which to keep, which to drop. Owns the
 * choice; the decoder keeps the bytes.
 */
import type { SavedState, Token } from './decoder.ts';
import { commonPrefix, WORTHWHILE } from './slots.ts';

interface Entry {
  readonly tokens: readonly Token[];
  readonly saved: SavedState;
}

export class PromptCache {
  readonly #budget: number;
  /** The least recently used one first. */
  #entries: Entry[] = [];
  #bytes = 0;
  #bytesPerToken = 0;

  /** @param budget bytes */
  constructor(budget: number) {
    this.#budget = budget;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The saved state that shares the longest beginning with a prompt, and how much of it; it counts as used. */
  find(
    prompt: readonly Token[],
  ): { readonly tokens: readonly Token[]; readonly saved: SavedState; readonly length: number } | undefined {
    let best: Entry | undefined;
    let longest = 0;
    for (const entry of this.#entries) {
      // The last token of a prompt is always computed: the first sampled token comes from its logits.
      const length = Math.min(commonPrefix(entry.tokens, prompt), prompt.length - 1);
      if (length > longest) [best, longest] = [entry, length];
    }
    return best && { ...best, length: longest };
  }

  /** Tells that a state was used: it stays longest. */
  touch(saved: SavedState): void {
    const used = this.#entries.filter((entry) => entry.saved === saved);
    this.#entries = [...this.#entries.filter((entry) => entry.saved !== saved), ...used];
  }

  /** Whether these tokens are worth their memory: not too few, not too many, and not saved already. */
  wants(tokens: readonly Token[]): boolean {
    return (
      tokens.length >= WORTHWHILE &&
      tokens.length * this.#bytesPerToken <= this.#budget &&
      !this.#entries.some((entry) => commonPrefix(entry.tokens, tokens) === tokens.length)
    );
  }

  /** Drops what these tokens will replace, before they are saved: where they go there may be no more room than the budget. */
  makeRoom(tokens: readonly Token[]): void {
    // What is a beginning of them is in them.
    for (const entry of this.#entries)
      if (commonPrefix(entry.tokens, tokens) === entry.tokens.length) this.remove(entry.saved);
    this.#shrinkTo(this.#budget - tokens.length * this.#bytesPerToken);
  }

  add(tokens: readonly Token[], saved: SavedState): void {
    this.#bytesPerToken = saved.bytes / tokens.length;
    this.#entries.push({ tokens, saved });
    this.#bytes += saved.bytes;
    this.#shrinkTo(this.#budget);
  }

  #shrinkTo(bytes: number): void {
    while (this.#bytes > bytes) {
      const [oldest] = this.#entries;
      if (!oldest) return;
      this.remove(oldest.saved);
    }
  }

  remove(saved: SavedState): void {
    const staying = this.#entries.filter((entry) => entry.saved !== saved);
    if (staying.length === this.#entries.length) return;
    this.#entries = staying;
    this.#bytes -= saved.bytes;
    saved.drop();
  }

  clear(): void {
    for (const { saved } of this.#entries) this.remove(saved);
  }
}
