/**
 * Reads Protocol Buffers out of a file without loading it: model files hold gigabytes of weights, and what they say of
 * themselves stands between them. Knows the wire format; what the fields mean is the caller's business.
 */
import { closeSync, openSync, readSync } from 'node:fs';

/** Bytes read at once. */
const WINDOW = 65_536;

/** The bytes are no Protocol Buffers, or end too early. */
export class WireError extends Error {}

/** One field of a message. */
export interface Field {
  readonly number: number;
  /** Of a whole number; for a field with a length, that length. Beyond 2^53 inexact. */
  readonly value: number;
  /** Where the content of a field with a length is; undefined for numbers. */
  readonly span: Span | undefined;
}

/** A stretch of the file. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

export class WireFile {
  readonly #fd: number;
  readonly size: number;
  readonly #window = Buffer.alloc(WINDOW);
  #from = 0;
  #filled = 0;

  /** @param size of the file, in bytes */
  constructor(file: string, size: number) {
    this.#fd = openSync(file, 'r');
    this.size = size;
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** The fields of the message in a stretch, in their order. @throws WireError */
  *fields(span: Span): Generator<Field> {
    let at = span.from;
    while (at < span.to) {
      const tag = this.#varint(at, span.to);
      at = tag.after;
      const number = Math.floor(tag.value / 8);
      if (number === 0) throw new WireError(`no field at byte ${at}`);
      switch (tag.value % 8) {
        case 0: {
          const { value, after } = this.#varint(at, span.to);
          at = after;
          yield { number, value, span: undefined };
          break;
        }
        case 1:
          at += 8;
          break;
        case 2: {
          const length = this.#varint(at, span.to);
          const to = length.after + length.value;
          if (to > span.to) throw new WireError(`the field at byte ${at} goes on to ${to} and the file to ${span.to}`);
          yield { number, value: length.value, span: { from: length.after, to } };
          at = to;
          break;
        }
        case 5:
          at += 4;
          break;
        default:
          throw new WireError(`no field at byte ${at}`);
      }
    }
  }

  /** A text. */
  text(span: Span): string {
    return this.#bytes(span).toString();
  }

  /** Numbers that stand one after another. */
  numbers(span: Span): number[] {
    const found: number[] = [];
    for (let at = span.from; at < span.to; ) {
      const { value, after } = this.#varint(at, span.to);
      found.push(value);
      at = after;
    }
    return found;
  }

  #bytes({ from, to }: Span): Buffer {
    const bytes = Buffer.alloc(to - from);
    if (readSync(this.#fd, bytes, 0, bytes.length, from) < bytes.length) throw new WireError('the file ends too early');
    return bytes;
  }

  #varint(at: number, end: number): { readonly value: number; readonly after: number } {
    let value = 0;
    for (let index = 0; index < 10; index++) {
      if (at + index >= end) break;
      const byte = this.#byte(at + index);
      value += (byte & 0x7f) * 2 ** (7 * index);
      if (byte < 0x80) return { value, after: at + index + 1 };
    }
    throw new WireError(`no number at byte ${at}`);
  }

  #byte(at: number): number {
    if (at < this.#from || at >= this.#from + this.#filled) {
      this.#from = at;
      this.#filled = readSync(this.#fd, this.#window, 0, WINDOW, at);
      if (this.#filled === 0) throw new WireError('the file ends too early');
    }
    return this.#window[at - this.#from] ?? 0;
  }
}
