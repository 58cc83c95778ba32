/** Ranges of characters as ranges of UTF-8 bytes, so that a grammar can be followed byte by byte. */

/** A sequence of bytes, each within bounds. */
export type ByteSequence = readonly (readonly [low: number, high: number])[];

/** First characters of the next length in UTF-8, and of the gap that surrogates leave. */
const BORDERS = [0x80, 0x800, 0xd800, 0xe000, 0x1_0000, 0x11_0000];

/** @returns sequences that match exactly the characters from `low` to `high`; surrogates are no characters */
export function utf8Ranges(low: number, high: number): ByteSequence[] {
  const found: ByteSequence[] = [];
  let from = low;
  for (const border of BORDERS) {
    if (from > high) break;
    if (from >= border) continue;
    const to = Math.min(high, border - 1);
    if (border !== 0xe000) split(from, to, found);
    from = to + 1;
  }
  return found;
}

/** Both ends have the same number of bytes. */
function split(low: number, high: number, found: ByteSequence[]): void {
  // Ranges that cover whole blocks of continuation bytes become one sequence; the ends are cut off first.
  const most = low > 0x7f ? 18 : 0;
  for (let bits = 6; bits <= most; bits += 6) {
    const mask = (1 << bits) - 1;
    if (low >> bits === high >> bits) continue;
    if ((low & mask) !== 0) {
      split(low, low | mask, found);
      split((low | mask) + 1, high, found);
      return;
    }
    if ((high & mask) !== mask) {
      split(low, (high & ~mask) - 1, found);
      split(high & ~mask, high, found);
      return;
    }
  }
  const first = utf8(low);
  const last = utf8(high);
  found.push(first.map((byte, index) => [byte, last[index] ?? byte] as const));
}

/** @returns the bytes of one character */
export function utf8(character: number): number[] {
  if (character < 0x80) return [character];
  const tail: number[] = [];
  let rest = character;
  const length = character < 0x800 ? 2 : character < 0x1_0000 ? 3 : 4;
  for (let byte = 1; byte < length; byte++) {
    tail.unshift(0x80 | (rest & 0x3f));
    rest >>= 6;
  }
  return [((0xf00 >> length) & 0xff) | rest, ...tail];
}
