/**
 * Reads the header of a GGUF file (versions 2 and 3) from disk, without its vocabulary: a few milliseconds. Never decides whether a
 * model can be served.
 */
import { open } from 'node:fs/promises';

export type GgufValue = number | string | boolean | readonly number[] | readonly string[];

export interface GgufTensor {
  readonly name: string;
  readonly elements: number;
  /** ggml's number of the type. */
  readonly type: number;
  /** First byte in the file. */
  readonly start: number;
}

export interface GgufHeader {
  /** By key; of lists only those of up to 1024 numbers or texts. */
  readonly values: ReadonlyMap<string, GgufValue>;
  /** Lengths of all lists, by key. */
  readonly lengths: ReadonlyMap<string, number>;
  readonly tensors: readonly GgufTensor[];
}

/** Read at first; headers of today's models are 2 to 16 MiB long, mostly vocabulary. */
const FIRST_BYTES = 4 * 2 ** 20;
/** No header is longer: a file that wants more is damaged. */
const MOST_BYTES = 256 * 2 ** 20;
const KEPT = 1024;

/** `GGUF`. */
const MAGIC = 0x4655_4747;
const STRING = 8;
const ARRAY = 9;
/** Bytes of the other types of values, by ggml's number: u8, i8, u16, i16, u32, i32, f32, bool, …, u64, i64, f64. */
const SIZES: readonly (number | undefined)[] = [1, 1, 2, 2, 4, 4, 4, 1, undefined, undefined, 8, 8, 8];

/** @throws Error for a file that cannot be read, or ends before its header does */
export async function readGgufHeader(file: string): Promise<GgufHeader> {
  const handle = await open(file, 'r');
  try {
    const { size } = await handle.stat();
    for (let length = Math.min(FIRST_BYTES, size); ; length = Math.min(4 * length, size)) {
      const bytes = Buffer.allocUnsafe(length);
      await handle.read(bytes, 0, length, 0);
      try {
        return parse(new Reader(bytes));
      } catch (error) {
        // Beyond the end of what was read.
        if (!(error instanceof RangeError) || length === size || length >= MOST_BYTES) throw error;
      }
    }
  } finally {
    await handle.close();
  }
}

function parse(reader: Reader): GgufHeader {
  if (reader.u32() !== MAGIC) throw new Error('it is no GGUF file');
  const version = reader.u32();
  if (version !== 2 && version !== 3) throw new Error(`it has GGUF version ${version}; versions 2 and 3 can be read`);
  const tensorCount = reader.u64();
  const valueCount = reader.u64();
  const values = new Map<string, GgufValue>();
  const lengths = new Map<string, number>();
  for (let index = 0; index < valueCount; index++) {
    const key = reader.text();
    const type = reader.u32();
    if (type === ARRAY) readList(reader, key, values, lengths);
    else values.set(key, type === STRING ? reader.text() : reader.scalar(type));
  }
  const tensors: { name: string; elements: number; type: number; start: number }[] = [];
  for (let index = 0; index < tensorCount; index++) {
    const name = reader.text();
    let elements = 1;
    for (let left = reader.u32(); left > 0; left--) elements *= reader.u64();
    tensors.push({ name, elements, type: reader.u32(), start: reader.u64() });
  }
  const alignment = Number(values.get('general.alignment') ?? 32);
  const data = Math.ceil(reader.offset / alignment) * alignment;
  return { values, lengths, tensors: tensors.map((tensor) => ({ ...tensor, start: data + tensor.start })) };
}

function readList(reader: Reader, key: string, values: Map<string, GgufValue>, lengths: Map<string, number>): void {
  const type = reader.u32();
  const length = reader.u64();
  lengths.set(key, length);
  if (length <= KEPT && type === STRING)
    values.set(
      key,
      list(length, () => reader.text()),
    );
  else if (length <= KEPT)
    values.set(
      key,
      list(length, () => Number(reader.scalar(type))),
    );
  else if (type === STRING) for (let index = 0; index < length; index++) reader.skip(reader.u64());
  else reader.skip(length * sizeOf(type));
}

function list<T>(length: number, next: () => T): T[] {
  return Array.from({ length }, next);
}

function sizeOf(type: number): number {
  const size = SIZES[type];
  if (size === undefined) throw new Error(`the header is damaged: a value has the unknown type ${type}`);
  return size;
}

/** Reads one after another; Buffer throws a RangeError beyond the end. */
class Reader {
  readonly #bytes: Buffer;
  offset = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  skip(bytes: number): void {
    this.offset += bytes;
  }

  u32(): number {
    const value = this.#bytes.readUInt32LE(this.offset);
    this.offset += 4;
    return value;
  }

  /** No length or offset needs more than 53 bits. */
  u64(): number {
    const low = this.u32();
    return low + this.u32() * 2 ** 32;
  }

  text(): string {
    const length = this.u64();
    const end = this.offset + length;
    if (end > this.#bytes.length) throw new RangeError('the text ends beyond the bytes');
    const value = this.#bytes.toString('utf8', this.offset, end);
    this.offset = end;
    return value;
  }

  scalar(type: number): number | boolean {
    const at = this.offset;
    this.offset += sizeOf(type);
    const bytes = this.#bytes;
    switch (type) {
      case 0:
        return bytes.readUInt8(at);
      case 1:
        return bytes.readInt8(at);
      case 2:
        return bytes.readUInt16LE(at);
      case 3:
        return bytes.readInt16LE(at);
      case 4:
        return bytes.readUInt32LE(at);
      case 5:
        return bytes.readInt32LE(at);
      case 6:
        return bytes.readFloatLE(at);
      case 7:
        return bytes.readUInt8(at) !== 0;
      case 10:
        return Number(bytes.readBigUInt64LE(at));
      case 11:
        return Number(bytes.readBigInt64LE(at));
      default:
        return bytes.readDoubleLE(at);
    }
  }
}
