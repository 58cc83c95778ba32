/**
 * Reads the header of a GGUF file (versions 2 and 3) from the beginning of its bytes. Pure: bytes in, header out. The bytes
 * come from strangers, so every count and length is checked before it is used and no loop runs longer than there are bytes.
 * Never keeps a vocabulary: large arrays are skipped.
 */
import { Cursor, Incomplete, Invalid } from './gguf-cursor.ts';
import { fileTypes, tensorTypes, valueSize, valueType } from './gguf-types.ts';

/** What the header says of the model. Fields that the file lacks are absent. */
export interface GgufHeader {
  readonly version: number;
  readonly architecture?: string;
  readonly name?: string;
  readonly license?: string;
  /** Sum of the sizes of the tensors in this file. */
  readonly parameters: number;
  /** From `general.file_type`, otherwise the type that most weights have. */
  readonly quantization?: string;
  readonly contextLength?: number;
  /** Transformer blocks. */
  readonly layers?: number;
  readonly hasChatTemplate: boolean;
  /** Bytes of KV cache at f16 for 1024 tokens of one sequence; an upper bound where layers use a sliding window. */
  readonly kvCachePer1kTokens?: number;
  /** Files of a split model, as this part says; 1 for a whole one. */
  readonly splitCount: number;
  readonly tensorCount: number;
  /** Bytes that the file must have: the end of the last tensor. A lower bound where a tensor type is unknown. */
  readonly minimumSize: number;
}

/** Result of looking at the bytes that are there so far. */
export type GgufParse =
  | { readonly kind: 'header'; readonly header: GgufHeader }
  /** At least `bytes` bytes from the beginning are needed. */
  | { readonly kind: 'incomplete'; readonly bytes: number }
  /** No GGUF file, or none that can be read; `message` says why. */
  | { readonly kind: 'invalid'; readonly message: string };

/** Longest header that is read, in bytes. The largest vocabularies in use take about 15 MiB. */
export const MAX_HEADER_BYTES = 64 * 1024 * 1024;

/** Longest string that is kept as a value, in bytes: the rest is skipped. */
const MAX_KEPT_STRING = 64 * 1024;
/** Longest array that is kept: one number a layer. */
const MAX_KEPT_ARRAY = 1024;
/** ggml's limit is 4. */
const MAX_DIMENSIONS = 8;
const MAX_ARRAY_DEPTH = 4;

type Kept = number | string | boolean | readonly number[];

/** Parses what is there. Never throws, whatever the bytes are. */
export function parseGgufHeader(bytes: Uint8Array): GgufParse {
  if (bytes.byteLength < 4) return { kind: 'incomplete', bytes: 4 };
  if (!startsWithMagic(bytes)) return { kind: 'invalid', message: describeStranger(bytes) };
  try {
    return { kind: 'header', header: readHeader(new Cursor(bytes)) };
  } catch (thrown) {
    if (thrown instanceof Incomplete) {
      if (thrown.bytes <= MAX_HEADER_BYTES) return { kind: 'incomplete', bytes: thrown.bytes };
      return {
        kind: 'invalid',
        message: `its header wants ${thrown.bytes} bytes, more than any model needs: it is damaged`,
      };
    }
    if (thrown instanceof Invalid) return { kind: 'invalid', message: thrown.message };
    throw thrown;
  }
}

function startsWithMagic(bytes: Uint8Array): boolean {
  return bytes[0] === 0x47 && bytes[1] === 0x47 && bytes[2] === 0x55 && bytes[3] === 0x46;
}

/** Says what the file begins with and, where the beginning is known, what it is. */
function describeStranger(bytes: Uint8Array): string {
  const head = bytes.subarray(0, 64);
  const text = Buffer.from(head).toString('latin1');
  const shown = /^[\x20-\x7e\s]{4}/.test(text)
    ? JSON.stringify(text.slice(0, 16))
    : `the bytes ${Buffer.from(head.subarray(0, 8)).toString('hex')}`;
  const lower = text.toLowerCase();
  let guess = '';
  if (lower.startsWith('<!doctype') || lower.startsWith('<html') || lower.startsWith('<?xml')) {
    guess = '; it is a web page: use the address that downloads the file itself';
  } else if (lower.startsWith('version https://git-lfs')) {
    guess = '; it is a Git LFS pointer: use the address of the file that it stands for';
  } else if (text.startsWith('PK')) {
    guess = '; it is a zip archive: unpack it and serve the .gguf file in it';
  } else if (text.startsWith('\x1f\x8b')) {
    guess = '; it is compressed with gzip: serve it unpacked';
  } else if (/^.{8}\{"/s.test(text)) {
    guess = '; it looks like safetensors: convert it to GGUF, or take a repository that has GGUF files';
  }
  return `it begins with ${shown}, and a GGUF file begins with "GGUF"${guess}`;
}

function readHeader(cursor: Cursor): GgufHeader {
  cursor.take(4);
  const version = cursor.u32();
  if (version !== 2 && version !== 3) throw new Invalid(explainVersion(version));
  const tensorCount = cursor.u64('the number of tensors');
  const valueCount = cursor.u64('the number of values');
  const values = new Map<string, Kept>();
  for (let index = 0; index < valueCount; index++) readValue(cursor, values);
  const tensors = readTensors(cursor, tensorCount);
  const alignment = positive(values.get('general.alignment')) ?? 32;
  const dataStart = Math.ceil(cursor.offset / alignment) * alignment;
  return describe(version, values, tensors, tensorCount, dataStart);
}

function explainVersion(version: number): string {
  if (version === 1) return 'it is GGUF version 1, which llama.cpp no longer reads: convert the model again';
  // 2 and 3 with their bytes the other way round.
  if (version === 0x02000000 || version === 0x03000000)
    return 'it is a big-endian GGUF file: take the little-endian one';
  return `it is GGUF version ${version}, and this release reads versions 2 and 3`;
}

function readValue(cursor: Cursor, values: Map<string, Kept>): void {
  const keyLength = cursor.u64('the length of a key');
  if (keyLength > 65_535) throw new Invalid(`its header is damaged: a key has ${keyLength} bytes`);
  const key = cursor.text(keyLength);
  const kind = cursor.u32();
  const value = readTyped(cursor, kind, 0);
  // The first wins: a value that comes twice is no way to hide the one that the engine reads.
  if (value !== undefined && !values.has(key)) values.set(key, value);
}

function readTyped(cursor: Cursor, kind: number, depth: number): Kept | undefined {
  if (kind === valueType.string) return readString(cursor);
  if (kind === valueType.array) return readArray(cursor, depth);
  if (!valueSize.has(kind)) throw new Invalid(`its header is damaged: a value has the unknown type ${kind}`);
  return cursor.scalar(kind);
}

function readString(cursor: Cursor): string | undefined {
  const length = cursor.u64('the length of a text');
  if (length <= MAX_KEPT_STRING) return cursor.text(length);
  cursor.take(length);
  // Long, but there: what is asked of such texts is only whether they exist.
  return '…';
}

function readArray(cursor: Cursor, depth: number): readonly number[] | undefined {
  const kind = cursor.u32();
  const length = cursor.u64('the length of a list');
  const size = valueSize.get(kind);
  if (size !== undefined) {
    if (length > MAX_KEPT_ARRAY) {
      cursor.take(length * size);
      return undefined;
    }
    return Array.from({ length }, () => Number(cursor.scalar(kind)));
  }
  if (kind === valueType.string) {
    for (let index = 0; index < length; index++) cursor.take(cursor.u64('the length of a text'));
    return undefined;
  }
  if (kind === valueType.array && depth < MAX_ARRAY_DEPTH) {
    for (let index = 0; index < length; index++) readArray(cursor, depth + 1);
    return undefined;
  }
  throw new Invalid(`its header is damaged: a list holds values of the unknown type ${kind}`);
}

interface Tensors {
  readonly parameters: number;
  /** Weights by tensor type. */
  readonly byType: ReadonlyMap<number, number>;
  /** End of the last tensor, in bytes from the beginning of the data. */
  readonly dataSize: number;
}

function readTensors(cursor: Cursor, count: number): Tensors {
  const byType = new Map<number, number>();
  let parameters = 0;
  let dataSize = 0;
  for (let index = 0; index < count; index++) {
    const nameLength = cursor.u64('the length of a tensor’s name');
    if (nameLength > 65_535) throw new Invalid(`its header is damaged: the name of a tensor has ${nameLength} bytes`);
    cursor.take(nameLength);
    const dimensions = cursor.u32();
    if (dimensions > MAX_DIMENSIONS) throw new Invalid(`its header is damaged: a tensor has ${dimensions} dimensions`);
    let elements = 1;
    for (let dimension = 0; dimension < dimensions; dimension++) elements *= cursor.u64('the size of a tensor');
    const kind = cursor.u32();
    const start = cursor.u64('the place of a tensor');
    const type = tensorTypes.get(kind);
    const end = start + (type === undefined ? 0 : Math.ceil(elements / type.block) * type.bytes);
    if (!Number.isSafeInteger(elements) || !Number.isSafeInteger(end)) {
      throw new Invalid('its header is damaged: a tensor is larger than any file');
    }
    parameters += elements;
    byType.set(kind, (byType.get(kind) ?? 0) + elements);
    dataSize = Math.max(dataSize, end);
  }
  if (!Number.isSafeInteger(parameters))
    throw new Invalid('its header is damaged: its tensors are larger than any file');
  return { parameters, byType, dataSize };
}

function describe(
  version: number,
  values: ReadonlyMap<string, Kept>,
  tensors: Tensors,
  tensorCount: number,
  dataStart: number,
): GgufHeader {
  const architecture = text(values.get('general.architecture'));
  const own = (key: string) => (architecture === undefined ? undefined : values.get(`${architecture}.${key}`));
  const hasChatTemplate = [...values].some(
    ([key, value]) =>
      (key === 'tokenizer.chat_template' || key.startsWith('tokenizer.chat_template.')) &&
      typeof value === 'string' &&
      value !== '',
  );
  const found = {
    architecture,
    name: text(values.get('general.name')),
    license: text(values.get('general.license')),
    quantization: quantizationOf(values.get('general.file_type'), tensors.byType),
    contextLength: positive(own('context_length')),
    layers: positive(own('block_count')),
    kvCachePer1kTokens: kvCache(own),
  };
  return {
    version,
    ...(Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined)) as Partial<GgufHeader>),
    parameters: tensors.parameters,
    hasChatTemplate,
    splitCount: positive(values.get('split.count')) ?? 1,
    tensorCount,
    minimumSize: tensorCount === 0 ? dataStart : dataStart + tensors.dataSize,
  };
}

function quantizationOf(fileType: Kept | undefined, byType: ReadonlyMap<number, number>): string | undefined {
  const named = typeof fileType === 'number' ? fileTypes.get(fileType) : undefined;
  if (named !== undefined) return named;
  const [most] = [...byType].sort(([, left], [, right]) => right - left);
  return most === undefined ? undefined : tensorTypes.get(most[0])?.name;
}

/** f16 keys and values of every layer; layers may differ in heads, and those without attention have none. */
function kvCache(own: (key: string) => Kept | undefined): number | undefined {
  const layers = positive(own('block_count'));
  const heads = firstPositive(own('attention.head_count'));
  if (layers === undefined || heads === undefined || layers > 100_000) return undefined;
  const width = positive(own('embedding_length'));
  const headSize = width === undefined ? undefined : Math.floor(width / heads);
  const keyLength = positive(own('attention.key_length')) ?? headSize;
  const valueLength = positive(own('attention.value_length')) ?? headSize;
  if (keyLength === undefined || valueLength === undefined) return undefined;
  const kvHeads = own('attention.head_count_kv') ?? own('attention.head_count');
  let sum = 0;
  if (Array.isArray(kvHeads)) {
    for (const count of kvHeads.slice(0, layers) as number[]) sum += Math.max(0, count);
  } else {
    sum = layers * (positive(kvHeads) ?? heads);
  }
  const bytes = sum * (keyLength + valueLength) * 2 * 1024;
  return Number.isSafeInteger(bytes) && bytes >= 0 ? bytes : undefined;
}

function text(value: Kept | undefined): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function positive(value: Kept | undefined): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : undefined;
}

function firstPositive(value: Kept | undefined): number | undefined {
  if (!Array.isArray(value)) return positive(value);
  return (value as number[]).find((item) => positive(item) !== undefined);
}
