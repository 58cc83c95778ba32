/**
 * How much alike two texts are: the cosine of their embeddings, and a signature from which no text can be read again. Pure.
 */
import { createHash } from 'node:crypto';

/** Bits of a signature. */
const BITS = 256;
/** Letters in a piece. */
const PIECE = 4;

/** 1 for the same direction, 0 for none in common. Undefined for vectors that cannot be compared. */
export function cosine(a: readonly number[], b: readonly number[]): number | undefined {
  if (a.length !== b.length || a.length === 0) return undefined;
  let dot = 0;
  let lengthA = 0;
  let lengthB = 0;
  for (const [index, value] of a.entries()) {
    const other = b[index] ?? 0;
    dot += value * other;
    lengthA += value * value;
    lengthB += other * other;
  }
  const lengths = Math.sqrt(lengthA * lengthB);
  return lengths > 0 && Number.isFinite(lengths) ? dot / lengths : undefined;
}

/**
 * A text as 64 hex digits: texts with the same pieces have nearly the same ones (simhash over pieces of four letters). The text
 * cannot be had back from it.
 */
export function signatureOf(text: string): string {
  const normal = ` ${text.toLowerCase().replace(/\s+/gu, ' ').trim()} `;
  const sums = new Int32Array(BITS);
  for (let at = 0; at < Math.max(1, normal.length - PIECE + 1); at++) {
    const hash = createHash('sha256')
      .update(normal.slice(at, at + PIECE))
      .digest();
    for (let bit = 0; bit < BITS; bit++) sums[bit] = (sums[bit] ?? 0) + (bitOf(hash, bit) ? 1 : -1);
  }
  const signature = Buffer.alloc(BITS / 8);
  for (const [bit, sum] of sums.entries()) {
    if (sum > 0) signature.writeUInt8(signature.readUInt8(bit >> 3) | (1 << (bit & 7)), bit >> 3);
  }
  return signature.toString('hex');
}

/** 1 for the same text, about 0 for texts without a piece in common. Undefined for what is no signature. */
export function likeness(a: string, b: string): number | undefined {
  const [left, right] = [Buffer.from(a, 'hex'), Buffer.from(b, 'hex')];
  if (left.length !== BITS / 8 || right.length !== BITS / 8) return undefined;
  let different = 0;
  for (let bit = 0; bit < BITS; bit++) if (bitOf(left, bit) !== bitOf(right, bit)) different++;
  return Math.max(0, Math.cos((Math.PI * different) / BITS));
}

function bitOf(bytes: Buffer, bit: number): boolean {
  return (bytes.readUInt8(bit >> 3) & (1 << (bit & 7))) !== 0;
}
