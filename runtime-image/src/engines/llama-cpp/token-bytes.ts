/**
 * The bytes that a token of a vocabulary stands for. Vocabularies write them as text, each family in its own way; owns
 * those ways.
 */

/** llama_vocab_type. */
const SENTENCE_PIECE = 1;
const BYTE_PAIRS = 2;
const WORD_PIECE = 3;
const UNIGRAM = 4;
/** llama_token_attr: user-defined, control and unknown tokens are written as they are. */
const LITERAL = 1 | 8 | 16;
const BYTE = 32;

/** GPT-2 writes a byte as a printable character: itself where it is one, else the next free one from U+0100 on. */
const BYTE_OF = new Map<string, number>();
let free = 0x100;
for (let byte = 0; byte < 256; byte++) {
  const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  BYTE_OF.set(String.fromCodePoint(printable ? byte : free++), byte);
}

/**
 * @param text as the vocabulary has it
 * @param kind llama_vocab_type
 * @param attributes llama_token_attr
 */
export function tokenBytes(text: string, kind: number, attributes: number): Uint8Array {
  if ((attributes & LITERAL) !== 0) return Buffer.from(text);
  if (kind === BYTE_PAIRS)
    return Uint8Array.from(
      Array.from(text).flatMap((character) => BYTE_OF.get(character) ?? [...Buffer.from(character)]),
    );
  const byte = (attributes & BYTE) === 0 ? null : /^<0x([0-9A-F]{2})>$/.exec(text);
  if (byte) return Uint8Array.of(Number.parseInt(byte[1] ?? '', 16));
  const spaced = [SENTENCE_PIECE, UNIGRAM, WORD_PIECE].includes(kind);
  return Buffer.from(spaced ? text.replaceAll('\u2581', ' ') : text);
}
