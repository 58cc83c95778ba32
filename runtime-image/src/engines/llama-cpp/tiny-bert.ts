/**
 * A BERT of a few thousand weights, made up by a formula, as GGUF: for tests of embedding models. Not part of the image.
 */
const EMBEDDING = 32;
const FEED_FORWARD = 64;
export const TINY_BERT_CONTEXT = 24;
const ALIGNMENT = 32;
const WORDS = [
  '[PAD]',
  '[UNK]',
  '[CLS]',
  '[SEP]',
  '[MASK]',
  ...['the', 'cat', 'sleeps', 'a', 'kitten', 'naps', 'number', 'seven'].map((word) => `\u2581${word}`),
];

/** GGUF's types of values. */
const UINT32 = 4;
const INT32 = 5;
const FLOAT32 = 6;
const BOOL = 7;
const STRING = 8;
const ARRAY = 9;

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const f32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
};
const string = (text: string) => Buffer.concat([u64(Buffer.byteLength(text)), Buffer.from(text)]);
const entry = (key: string, type: number, value: Buffer) => Buffer.concat([string(key), u32(type), value]);
const list = (type: number, values: readonly Buffer[]) => Buffer.concat([u32(type), u64(values.length), ...values]);

/** @param ranks whether it scores pairs of texts instead of embedding one. @returns the file */
export function makeTinyBert({ ranks = false } = {}): Buffer {
  const metadata = [
    entry('general.architecture', STRING, string('bert')),
    entry('general.file_type', UINT32, u32(0)),
    entry('bert.context_length', UINT32, u32(TINY_BERT_CONTEXT)),
    entry('bert.embedding_length', UINT32, u32(EMBEDDING)),
    entry('bert.feed_forward_length', UINT32, u32(FEED_FORWARD)),
    entry('bert.block_count', UINT32, u32(1)),
    entry('bert.attention.head_count', UINT32, u32(2)),
    entry('bert.attention.layer_norm_epsilon', FLOAT32, f32(1e-12)),
    entry('bert.attention.causal', BOOL, Buffer.of(0)),
    entry('bert.pooling_type', UINT32, u32(ranks ? 4 : 1)),
    entry('tokenizer.ggml.model', STRING, string('bert')),
    entry('tokenizer.ggml.tokens', ARRAY, list(STRING, WORDS.map(string))),
    entry(
      'tokenizer.ggml.token_type',
      ARRAY,
      list(
        INT32,
        WORDS.map((word) => u32(word.startsWith('[') ? 3 : 1)),
      ),
    ),
    entry('tokenizer.ggml.token_type_count', UINT32, u32(2)),
    entry('tokenizer.ggml.padding_token_id', UINT32, u32(0)),
    entry('tokenizer.ggml.unknown_token_id', UINT32, u32(1)),
    entry('tokenizer.ggml.bos_token_id', UINT32, u32(2)),
    entry('tokenizer.ggml.cls_token_id', UINT32, u32(2)),
    entry('tokenizer.ggml.eos_token_id', UINT32, u32(3)),
    entry('tokenizer.ggml.seperator_token_id', UINT32, u32(3)),
    entry('tokenizer.ggml.mask_token_id', UINT32, u32(4)),
  ];
  const norm = (name: string) => [
    { name: `${name}.weight`, shape: [EMBEDDING] },
    { name: `${name}.bias`, shape: [EMBEDDING] },
  ];
  const layer = (name: string, from: number, to: number) => [
    { name: `${name}.weight`, shape: [from, to] },
    { name: `${name}.bias`, shape: [to] },
  ];
  const tensors = [
    { name: 'token_embd.weight', shape: [EMBEDDING, WORDS.length] },
    { name: 'position_embd.weight', shape: [EMBEDDING, TINY_BERT_CONTEXT] },
    { name: 'token_types.weight', shape: [EMBEDDING, 2] },
    ...norm('token_embd_norm'),
    ...['attn_q', 'attn_k', 'attn_v', 'attn_output'].flatMap((name) => layer(`blk.0.${name}`, EMBEDDING, EMBEDDING)),
    ...norm('blk.0.attn_output_norm'),
    ...layer('blk.0.ffn_up', EMBEDDING, FEED_FORWARD),
    ...layer('blk.0.ffn_down', FEED_FORWARD, EMBEDDING),
    ...norm('blk.0.layer_output_norm'),
    ...(ranks ? [...layer('cls', EMBEDDING, EMBEDDING), ...layer('cls.output', EMBEDDING, 1)] : []),
  ];
  const infos: Buffer[] = [];
  const data: Buffer[] = [];
  let offset = 0;
  let seed = 1;
  for (const { name, shape } of tensors) {
    const count = shape.reduce((product, size) => product * size, 1);
    infos.push(Buffer.concat([string(name), u32(shape.length), ...shape.map(u64), u32(0), u64(offset)]));
    const values = Float32Array.from({ length: count }, () => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return name.endsWith('norm.weight') ? 1 : seed / 2 ** 32 - 0.5;
    });
    const bytes = Buffer.from(values.buffer);
    const padded = Buffer.concat([bytes, Buffer.alloc((ALIGNMENT - (bytes.length % ALIGNMENT)) % ALIGNMENT)]);
    data.push(padded);
    offset += padded.length;
  }
  const head = Buffer.concat([
    Buffer.from('GGUF'),
    u32(3),
    u64(tensors.length),
    u64(metadata.length),
    ...metadata,
    ...infos,
  ]);
  return Buffer.concat([head, Buffer.alloc((ALIGNMENT - (head.length % ALIGNMENT)) % ALIGNMENT), ...data]);
}
