/**
 * Reads what an ONNX file says of its model: the files that hold its weights, how many and of what type these are, and the cache
 * that a token takes. Pure: bytes in, facts out. The bytes come from strangers: nothing is believed to be there.
 */
import protobuf from 'protobufjs/minimal.js';

const { Reader } = protobuf;
type Reader = protobuf.Reader;

/** What the graph says. */
export interface OnnxGraph {
  /** Version of ONNX's own operators. */
  readonly opset: number;
  /** Files beside the graph that hold weights, with the bytes that they must have at least. */
  readonly external: readonly { readonly location: string; readonly size: number }[];
  /** Number of weights. */
  readonly parameters: number;
  /** How most of them are stored, such as INT4, INT8, FP16 or FP32; undefined without weights. */
  readonly quantization: string | undefined;
  /** Bytes of KV cache for one token, of all layers; 0 for a model that keeps none, undefined where the shapes do not say. */
  readonly cachePerToken: number | undefined;
}

export type OnnxParse =
  | { readonly kind: 'graph'; readonly graph: OnnxGraph }
  /** No ONNX file, or a damaged one; `message` says why. */
  | { readonly kind: 'invalid'; readonly message: string };

interface Tensor {
  name: string;
  type: number;
  elements: number;
  location?: string;
  end: number;
}

/** TensorProto.DataType: its name as it is written for GGUF too, in capitals, and bytes where caches come in it. */
const TYPES: Readonly<Record<number, { readonly name: string; readonly bytes: number }>> = {
  1: { name: 'FP32', bytes: 4 },
  2: { name: 'INT8', bytes: 1 },
  3: { name: 'INT8', bytes: 1 },
  10: { name: 'FP16', bytes: 2 },
  11: { name: 'FP64', bytes: 8 },
  16: { name: 'BF16', bytes: 2 },
  21: { name: 'INT4', bytes: 1 },
  22: { name: 'INT4', bytes: 1 },
};
/** Operators whose weights lie packed: the attributes K, N and bits say what they are, and not the shape of the bytes. */
const PACKED = new Set(['MatMulNBits', 'GatherBlockQuantized']);
/** Graphs that ONNX writes begin with ir_version; more than this was never given out. */
const MAX_IR_VERSION = 100;

/** Parses a whole file. Never throws, whatever the bytes are. */
export function parseOnnxGraph(bytes: Uint8Array): OnnxParse {
  if (!looksLikeOnnx(bytes)) return { kind: 'invalid', message: describeStranger(bytes) };
  try {
    return { kind: 'graph', graph: readModel(bytes) };
  } catch {
    // The reader throws for every length that leads beyond the end.
    return { kind: 'invalid', message: 'its content ends too early or is damaged: upload it again, whole' };
  }
}

function describeStranger(bytes: Uint8Array): string {
  const head = Buffer.from(bytes.subarray(0, 16));
  const text = head.toString('latin1');
  if (text.startsWith('version https://')) return 'it is a Git LFS pointer: upload the file that it stands for';
  const shown = /^[\x20-\x7e\s]{4}/.test(text) ? JSON.stringify(text) : `the bytes ${head.toString('hex')}`;
  return `it begins with ${head.length === 0 ? 'nothing' : shown}, which no ONNX model does`;
}

/** Whether a file may be an ONNX model, by its first bytes. */
export function looksLikeOnnx(head: Uint8Array): boolean {
  return head[0] === 8 && (head[1] ?? 0) > 0 && (head[1] ?? 0) <= MAX_IR_VERSION;
}

function readModel(bytes: Uint8Array): OnnxGraph {
  let opset = 0;
  let graph: Omit<OnnxGraph, 'opset'> | undefined;
  eachField(Reader.create(bytes), (field, reader) => {
    if (field === 7) graph = readGraph(nested(reader));
    else if (field === 8) {
      const { domain, version } = readOpset(nested(reader));
      if (domain === '') opset = version;
    } else return false;
    return true;
  });
  if (graph === undefined) throw new RangeError('no graph');
  return { opset, ...graph };
}

function readGraph(reader: Reader): Omit<OnnxGraph, 'opset'> {
  const tensors: Tensor[] = [];
  const inputs: Port[] = [];
  const packed = new Set<string>();
  const counts = new Map<string, number>();
  const add = (kind: string, count: number) => counts.set(kind, (counts.get(kind) ?? 0) + count);
  eachField(reader, (field, at) => {
    if (field === 1) {
      const node = readNode(nested(at));
      if (!PACKED.has(node.operator)) return true;
      for (const input of node.inputs) packed.add(input);
      add(`INT${node.numbers.get('bits') ?? 4}`, (node.numbers.get('K') ?? 0) * (node.numbers.get('N') ?? 0));
    } else if (field === 5) tensors.push(readTensor(nested(at)));
    else if (field === 11) inputs.push(readPort(nested(at)));
    else return false;
    return true;
  });
  const external = new Map<string, number>();
  for (const { name, type, elements, location, end } of tensors) {
    if (location !== undefined) external.set(location, Math.max(external.get(location) ?? 0, end));
    const kind = TYPES[type]?.name;
    // Of other types are shapes and indices, which are no weights.
    if (kind !== undefined && !packed.has(name)) add(kind, elements);
  }
  const most = [...counts].filter(([, count]) => count > 0).sort(([, a], [, b]) => b - a)[0];
  return {
    external: Array.from(external, ([location, size]) => ({ location, size })),
    parameters: [...counts.values()].reduce((sum, count) => sum + count, 0),
    quantization: most?.[0],
    cachePerToken: cachePerToken(inputs),
  };
}

interface Port {
  readonly name: string;
  readonly type: number;
  readonly shape: readonly (number | undefined)[];
}

/** Caches come as past_key_values.N.key and .value: (batch, heads, tokens, size of a head). */
function cachePerToken(inputs: readonly Port[]): number | undefined {
  let sum = 0;
  for (const { name, type, shape } of inputs) {
    if (!/past/i.test(name) || shape.length === 0) continue;
    const [, heads, , size] = shape;
    const bytes = TYPES[type]?.bytes;
    if (heads === undefined || size === undefined || bytes === undefined || shape.length !== 4) return undefined;
    sum += heads * size * bytes;
  }
  return sum;
}

/** OperatorSetIdProto: 1 domain, 2 version. */
function readOpset(reader: Reader): { domain: string; version: number } {
  const found = { domain: '', version: 0 };
  eachField(reader, (field, at) => {
    if (field === 1) found.domain = at.string();
    else if (field === 2) found.version = whole(at);
    else return false;
    return true;
  });
  return found;
}

/** NodeProto: 1 input, 4 op_type, 5 attribute. AttributeProto: 1 name, 3 i. */
function readNode(reader: Reader): { operator: string; inputs: string[]; numbers: Map<string, number> } {
  const node = { operator: '', inputs: [] as string[], numbers: new Map<string, number>() };
  eachField(reader, (field, at) => {
    if (field === 1) node.inputs.push(at.string());
    else if (field === 4) node.operator = at.string();
    else if (field === 5) {
      let name = '';
      eachField(nested(at), (part, inner) => {
        if (part === 1) name = inner.string();
        else if (part === 3) node.numbers.set(name, whole(inner));
        else return false;
        return true;
      });
    } else return false;
    return true;
  });
  return node;
}

/** TensorProto: 1 dims, 2 data_type, 8 name, 13 external_data, a list of pairs: 1 key, 2 value. */
function readTensor(reader: Reader): Tensor {
  const tensor: Tensor = { name: '', type: 0, elements: 1, end: 0 };
  const outside = new Map<string, string>();
  eachField(reader, (field, at, wire) => {
    if (field === 1) for (const size of numbers(at, wire)) tensor.elements *= size;
    else if (field === 2) tensor.type = whole(at);
    else if (field === 8) tensor.name = at.string();
    else if (field === 13) {
      const pair = ['', ''];
      eachField(nested(at), (part, inner) => {
        if (part !== 1 && part !== 2) return false;
        pair[part - 1] = inner.string();
        return true;
      });
      outside.set(pair[0] ?? '', pair[1] ?? '');
    } else return false;
    return true;
  });
  const location = outside.get('location');
  if (location !== undefined) {
    tensor.location = location;
    tensor.end = Number(outside.get('offset') ?? 0) + Number(outside.get('length') ?? 0);
  }
  return tensor;
}

/** ValueInfoProto: 1 name, 2 TypeProto: 1 Tensor: 1 elem_type, 2 TensorShapeProto: 1 Dimension: 1 dim_value. */
function readPort(reader: Reader): Port {
  let name = '';
  let type = 0;
  const shape: (number | undefined)[] = [];
  eachField(reader, (field, at) => {
    if (field === 1) name = at.string();
    else if (field === 2) {
      eachField(nested(at), (kind, ofType) => {
        if (kind !== 1) return false;
        eachField(nested(ofType), (part, ofTensor) => {
          if (part === 1) type = whole(ofTensor);
          else if (part === 2)
            eachField(nested(ofTensor), (one, ofShape) => one === 1 && readDimension(ofShape, shape));
          else return false;
          return true;
        });
        return true;
      });
    } else return false;
    return true;
  });
  return { name, type, shape };
}

function readDimension(reader: Reader, shape: (number | undefined)[]): true {
  let value: number | undefined;
  eachField(nested(reader), (field, at) => {
    if (field !== 1) return false;
    value = whole(at);
    return true;
  });
  shape.push(value);
  return true;
}

/** Calls `take` with every field of the message; a field that it does not take is passed over. */
function eachField(reader: Reader, take: (field: number, reader: Reader, wire: number) => boolean): void {
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    const before = reader.pos;
    if (!take(tag >>> 3, reader, tag & 7)) {
      reader.pos = before;
      reader.skipType(tag & 7);
    }
  }
}

/** The message that begins here, as a reader of its own. */
function nested(reader: Reader): Reader {
  const length = reader.uint32();
  const from = reader.pos;
  reader.skip(length);
  return Reader.create(reader.buf.subarray(from, from + length));
}

/** Numbers that come one by one or all in one field. */
function numbers(reader: Reader, wire: number): number[] {
  if (wire !== 2) return [whole(reader)];
  const list = nested(reader);
  const found: number[] = [];
  while (list.pos < list.len) found.push(whole(list));
  return found;
}

function whole(reader: Reader): number {
  return Number(reader.int64());
}
