/** Reads numbers and texts out of the bytes of a GGUF file, one after the other. Never reads beyond what is there. */
import { valueSize, valueType } from './gguf-types.ts';

/** Thrown when more bytes are needed: at least `bytes` from the beginning. */
export class Incomplete {
  readonly bytes: number;
  constructor(bytes: number) {
    this.bytes = bytes;
  }
}
/** Thrown when no more bytes can help; `message` says why. */
export class Invalid {
  readonly message: string;
  constructor(message: string) {
    this.message = message;
  }
}

/** A place in bytes that may end at any moment. Throws {@link Incomplete} instead of reading beyond them. */
export class Cursor {
  offset = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Moves over `count` bytes and answers where they begin. */
  take(count: number): number {
    const start = this.offset;
    const end = start + count;
    if (end > this.#bytes.byteLength) throw new Incomplete(end);
    this.offset = end;
    return start;
  }

  u32(): number {
    return this.#view.getUint32(this.take(4), true);
  }

  /** A 64-bit count or length. Those above 2^53 belong to no real file. */
  u64(what: string): number {
    const value = this.#view.getBigUint64(this.take(8), true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Invalid(`its header is damaged: ${what} is ${value}`);
    return Number(value);
  }

  text(length: number): string {
    const start = this.take(length);
    return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + start, length).toString('utf8');
  }

  scalar(kind: number): number | boolean {
    const at = this.take(valueSize.get(kind) ?? 0);
    switch (kind) {
      case valueType.uint8:
        return this.#view.getUint8(at);
      case valueType.int8:
        return this.#view.getInt8(at);
      case valueType.uint16:
        return this.#view.getUint16(at, true);
      case valueType.int16:
        return this.#view.getInt16(at, true);
      case valueType.uint32:
        return this.#view.getUint32(at, true);
      case valueType.int32:
        return this.#view.getInt32(at, true);
      case valueType.float32:
        return this.#view.getFloat32(at, true);
      case valueType.float64:
        return this.#view.getFloat64(at, true);
      case valueType.uint64:
        return Number(this.#view.getBigUint64(at, true));
      case valueType.int64:
        return Number(this.#view.getBigInt64(at, true));
      default:
        return this.#view.getUint8(at) !== 0;
    }
  }
}
