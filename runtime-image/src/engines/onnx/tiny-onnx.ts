/**
 * ONNX models of a few thousand bytes with made-up weights, for tests that no real model has a file for. Writes onnx.proto's
 * ModelProto by hand. Not part of the image.
 */

/** Tokens of the tiny language model's vocabulary: one for each letter, and one that ends. */
export const TINY_WORDS = [...Array.from('abcdefghijklmnopqrstuvwxyz .,!'), '<|end|>'];
const VOCABULARY = TINY_WORDS.length;
const CONTEXT = 64;
const HEADS = 2;
const HEAD_SIZE = 8;
const HIDDEN = HEADS * HEAD_SIZE;

/** TensorProto.DataType. */
const TYPES = { float32: 1, int32: 6, int64: 7, string: 8, float16: 10 } as const;
type TypeName = keyof typeof TYPES;

export interface TinyOptions {
  /** Of weights, caches and logits. Default float32. */
  readonly floats?: 'float32' | 'float16';
  /** Whether present is what the attention itself puts out, so that it may be the past's own buffer. Default true. */
  readonly shared?: boolean;
  /** Of ids, mask and positions. Default int64. */
  readonly ids?: 'int64' | 'int32' | 'string';
  /** Default 21. */
  readonly opset?: number;
  /** Default 10. */
  readonly irVersion?: number;
  /** Of the node that adds up: default Add. */
  readonly operator?: string;
  /** One more input, of three dimensions. */
  readonly input?: string;
  /** File beside the model that the embeddings are in. */
  readonly weights?: string;
  /** Whether it keeps a past. Default true. */
  readonly past?: boolean;
}

/** The bytes of a language model with one layer of attention. */
export function tinyLanguageModel(options: TinyOptions = {}): Buffer {
  const floats = options.floats ?? 'float32';
  const ids = options.ids ?? 'int64';
  const past = options.past !== false;
  const random = numbers(7);
  const weights = (name: string, rows: number, columns: number) =>
    tensor(name, floats, [rows, columns], Array.from({ length: rows * columns }, random));
  const present = options.shared === false ? 'new' : 'present';
  const caches = ['key', 'value'] as const;
  const table = weights('table', VOCABULARY, HIDDEN);
  const nodes = [
    node('Gather', ['table', 'input_ids'], ['words']),
    node('Gather', ['places', 'position_ids'], ['where']),
    node(options.operator ?? 'Add', ['words', 'where'], ['hidden']),
    ...['query', 'key', 'value'].map((kind) => node('MatMul', ['hidden', `${kind}_weight`], [kind])),
    node('Cast', ['attention_mask'], ['mask'], { to: TYPES.int32 }),
    node('ReduceSum', ['mask', 'axis'], ['lengths'], { keepdims: 0 }),
    node('Sub', ['lengths', 'one'], ['last']),
    node('Shape', ['attention_mask'], ['mask_shape']),
    node('Gather', ['mask_shape', 'second'], ['length']),
    node('Cast', ['length'], ['total'], { to: TYPES.int32 }),
    node(
      'GroupQueryAttention',
      [
        'query',
        'key',
        'value',
        ...(past ? caches.map((kind) => `past_key_values.0.${kind}`) : ['', '']),
        'last',
        'total',
      ],
      ['attended', ...caches.map((kind) => `${present}.0.${kind}`)],
      { num_heads: HEADS, kv_num_heads: 1 },
      'com.microsoft',
    ),
    ...(present === 'new' ? caches.map((kind) => node('Identity', [`new.0.${kind}`], [`present.0.${kind}`])) : []),
    node('Add', ['attended', 'hidden'], ['seen']),
    node('MatMul', ['seen', 'logits_weight'], ['logits']),
  ];
  const initializers = [
    options.weights === undefined ? table : external('table', floats, [VOCABULARY, HIDDEN], options.weights),
    weights('places', CONTEXT, HIDDEN),
    weights('query_weight', HIDDEN, HIDDEN),
    weights('key_weight', HIDDEN, HEAD_SIZE),
    weights('value_weight', HIDDEN, HEAD_SIZE),
    weights('logits_weight', HIDDEN, VOCABULARY),
    tensor('axis', 'int64', [1], [1]),
    tensor('one', 'int32', [1], [1]),
    tensor('second', 'int64', [], [1]),
  ];
  const cache = (length: string) => ['batch', 1, length, HEAD_SIZE];
  const inputs = [
    port('input_ids', ids, ['batch', 'sequence']),
    port('attention_mask', ids, ['batch', 'total']),
    port('position_ids', ids, ['batch', 'sequence']),
    ...(past ? caches.map((kind) => port(`past_key_values.0.${kind}`, floats, cache('past'))) : []),
    ...(options.input === undefined ? [] : [port(options.input, floats, ['batch', 'layers', HIDDEN])]),
  ];
  const outputs = [
    port('logits', floats, ['batch', 'sequence', VOCABULARY]),
    ...(past ? caches.map((kind) => port(`present.0.${kind}`, floats, cache('total'))) : []),
  ];
  return model(nodes, initializers, inputs, outputs, options);
}

/** Bytes of the embeddings that a model with `weights` keeps outside. */
export const TINY_WEIGHTS = VOCABULARY * HIDDEN * 4;

/** tokenizer.json of the tiny language model: a letter is a token. */
export function tinyTokenizer(): object {
  const end = VOCABULARY - 1;
  return {
    added_tokens: [{ id: end, content: TINY_WORDS[end], special: true, normalized: false }],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(TINY_WORDS.map((word, index) => [word === ' ' ? '\u0120' : word, index])),
      merges: [],
    },
  };
}

function model(
  nodes: readonly Buffer[],
  initializers: readonly Buffer[],
  inputs: readonly Buffer[],
  outputs: readonly Buffer[],
  { opset = 21, irVersion = 10 }: TinyOptions,
): Buffer {
  const graph = [
    ...nodes.map((one) => field(1, one)),
    field(2, 'tiny'),
    ...initializers.map((one) => field(5, one)),
    ...inputs.map((one) => field(11, one)),
    ...outputs.map((one) => field(12, one)),
  ];
  return Buffer.concat([
    field(1, irVersion),
    field(7, Buffer.concat(graph)),
    field(8, Buffer.concat([field(1, ''), field(2, opset)])),
    field(8, Buffer.concat([field(1, 'com.microsoft'), field(2, 1)])),
  ]);
}

function node(
  operator: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes: Readonly<Record<string, number>> = {},
  domain = '',
): Buffer {
  /** AttributeProto: 1 name, 3 i, 20 type (2: a whole number). */
  const written = Object.entries(attributes).map(([name, value]) =>
    field(5, Buffer.concat([field(1, name), field(3, value), field(20, 2)])),
  );
  return Buffer.concat([
    ...inputs.map((one) => field(1, one)),
    ...outputs.map((one) => field(2, one)),
    field(3, outputs[0] ?? ''),
    field(4, operator),
    ...written,
    ...(domain === '' ? [] : [field(7, domain)]),
  ]);
}

function tensor(name: string, type: TypeName, dims: readonly number[], values: readonly number[]): Buffer {
  const bytes = {
    float32: () => Buffer.from(Float32Array.from(values).buffer),
    float16: () => Buffer.concat(values.map(half)),
    int32: () => Buffer.from(Int32Array.from(values).buffer),
    int64: () => Buffer.from(BigInt64Array.from(values, BigInt).buffer),
    string: () => Buffer.alloc(0),
  };
  return Buffer.concat([
    ...dims.map((size) => field(1, size)),
    field(2, TYPES[type]),
    field(8, name),
    field(9, bytes[type]()),
  ]);
}

/** TensorProto: 13 external_data, 14 data_location (1: outside). */
function external(name: string, type: TypeName, dims: readonly number[], file: string): Buffer {
  const entry = (key: string, value: string) => field(13, Buffer.concat([field(1, key), field(2, value)]));
  return Buffer.concat([
    ...dims.map((size) => field(1, size)),
    field(2, TYPES[type]),
    field(8, name),
    entry('location', file),
    entry('offset', '0'),
    entry('length', String(TINY_WEIGHTS)),
    field(14, 1),
  ]);
}

function port(name: string, type: TypeName, shape: readonly (number | string)[]): Buffer {
  const dims = shape.map((size) => field(1, typeof size === 'number' ? field(1, size) : field(2, size)));
  const kind = Buffer.concat([field(1, TYPES[type]), field(2, Buffer.concat(dims))]);
  return Buffer.concat([field(1, name), field(2, field(1, kind))]);
}

/** A field of Protocol Buffers: whole numbers as such, the rest with its length before it. */
function field(number: number, value: number | string | Buffer): Buffer {
  if (typeof value === 'number') return Buffer.concat([varint(number * 8), varint(value)]);
  const bytes = Buffer.from(value);
  return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  return Buffer.from([...bytes, rest]);
}

/** IEEE 754 with 16 bits, for numbers that are neither large nor tiny. */
function half(value: number): Buffer {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0] ?? 0;
  const exponent = Math.max(0, ((bits >>> 23) & 0xff) - 112);
  const buffer = Buffer.alloc(2);
  buffer.writeUInt16LE(exponent === 0 ? 0 : ((bits >>> 16) & 0x8000) | (exponent << 10) | ((bits >>> 13) & 0x3ff));
  return buffer;
}

/** Numbers around zero, always the same. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state / 2 ** 32 - 0.5) * 2;
  };
}
