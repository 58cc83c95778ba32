/**
 * A vocabulary sorted by the tokens' bytes, so that tokens with a common beginning stand together and a grammar looks at
 * that beginning once. Owns the packing that carries a vocabulary from one thread to another.
 */
import type { Token } from '../../scheduling/decoder.ts';

/** The bytes of every token, one after another. */
export interface PackedVocabulary {
  readonly bytes: Uint8Array;
  /** Where each token begins in `bytes`, and after the last where they end. Tokens without text are empty. */
  readonly offsets: Uint32Array;
}

/** @param bytesOf nothing for tokens that steer the model and are no text */
export function packVocabulary(size: number, bytesOf: (token: Token) => Uint8Array): PackedVocabulary {
  const parts = Array.from({ length: size }, (_, token) => bytesOf(token));
  const offsets = new Uint32Array(size + 1);
  parts.forEach((part, token) => {
    offsets[token + 1] = (offsets[token] ?? 0) + part.length;
  });
  const bytes = new Uint8Array(offsets[size] ?? 0);
  parts.forEach((part, token) => bytes.set(part, offsets[token]));
  return { bytes, offsets };
}

export class TokenOrder {
  readonly size: number;
  /** Tokens that have text, sorted by it. */
  readonly sorted: Uint32Array;
  /** How many bytes each of `sorted` shares with the one before it. */
  readonly shared: Uint32Array;
  readonly #packed: PackedVocabulary;

  constructor(packed: PackedVocabulary) {
    const { bytes, offsets } = packed;
    this.#packed = packed;
    this.size = offsets.length - 1;
    const begins = (token: number) => offsets[token] as number;
    const withText = Uint32Array.from({ length: this.size }, (_, token) => token).filter(
      (token) => begins(token + 1) > begins(token),
    );
    this.sorted = withText.sort((a, b) => {
      const length = Math.min(begins(a + 1) - begins(a), begins(b + 1) - begins(b));
      for (let at = 0; at < length; at++) {
        const difference = (bytes[begins(a) + at] as number) - (bytes[begins(b) + at] as number);
        if (difference !== 0) return difference;
      }
      return begins(a + 1) - begins(a) - (begins(b + 1) - begins(b)) || a - b;
    });
    this.shared = this.sorted.map((token, index) => {
      if (index === 0) return 0;
      const before = this.bytesOf(this.sorted[index - 1] as number);
      const own = this.bytesOf(token);
      let count = 0;
      while (count < before.length && count < own.length && before[count] === own[count]) count++;
      return count;
    });
  }

  bytesOf(token: Token): Uint8Array {
    const { bytes, offsets } = this.#packed;
    return bytes.subarray(offsets[token], offsets[token + 1]);
  }
}
