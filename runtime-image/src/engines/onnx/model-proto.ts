/**
 * What an ONNX file says of its model beside the weights: inputs and outputs, operators, types, and the files in which the
 * weights are kept. Reads onnx.proto's ModelProto as far as that; whether it can be run is ONNX Runtime's to say.
 */
import { type Field, type Span, WireFile } from './wire.ts';

/** TensorProto.DataType. */
const TYPES: Record<number, string> = {
  1: 'float32',
  2: 'uint8',
  3: 'int8',
  6: 'int32',
  7: 'int64',
  9: 'bool',
  10: 'float16',
  11: 'float64',
  16: 'bfloat16',
  21: 'uint4',
  22: 'int4',
};

export interface Port {
  readonly name: string;
  /** Such as float32; a number where this file does not know the type. */
  readonly type: string;
  /** A number, or the name of what varies; empty for a dimension without either. */
  readonly shape: readonly (number | string)[];
}

/** A file beside the model that holds weights. */
export interface ExternalFile {
  readonly location: string;
  /** Bytes that it must have at least. */
  readonly size: number;
}

export interface ModelProto {
  readonly irVersion: number;
  /** Versions of operator sets by domain; '' is ONNX's own. */
  readonly opsets: ReadonlyMap<string, number>;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  /** Operators by the names of what they put out. */
  readonly producers: ReadonlyMap<string, string>;
  readonly external: readonly ExternalFile[];
  /** Number of weights. */
  readonly parameters: number;
  /** How most of them are stored: int4, int8, float16, float32. */
  readonly precision: string;
}

interface Initializer {
  readonly name: string;
  readonly elements: number;
  readonly type: string;
}

/** Operators whose weights are packed: what their attributes say counts, and not the shape of the bytes. */
const PACKED = new Set(['MatMulNBits', 'QMoE', 'GatherBlockQuantized']);

/**
 * Reads a model file.
 * @param size in bytes
 * @throws WireError for a file that is no model or ends too early
 */
export function readModelProto(file: string, size: number): ModelProto {
  const wire = new WireFile(file, size);
  try {
    const opsets = new Map<string, number>();
    let irVersion = 0;
    let graph: Span | undefined;
    for (const field of wire.fields({ from: 0, to: size })) {
      if (field.number === 1) irVersion = field.value;
      else if (field.number === 7) graph = field.span;
      else if (field.number === 8 && field.span) {
        const { text, number } = scalars(wire, field.span);
        opsets.set(text.get(1) ?? '', number.get(2) ?? 0);
      }
    }
    return { irVersion, opsets, ...readGraph(wire, graph ?? { from: 0, to: 0 }) };
  } finally {
    wire.close();
  }
}

function readGraph(wire: WireFile, graph: Span): Omit<ModelProto, 'irVersion' | 'opsets'> {
  const inputs: Port[] = [];
  const outputs: Port[] = [];
  const producers = new Map<string, string>();
  const initializers = new Map<string, Initializer>();
  const external = new Map<string, number>();
  /** Weights in packed form, by type. */
  const counts = new Map<string, number>();
  const packed = new Set<string>();
  for (const { number, span } of wire.fields(graph)) {
    if (!span) continue;
    if (number === 1) {
      const node = readNode(wire, span);
      for (const output of node.outputs) producers.set(output, node.operator);
      // Scales and zero points.
      if (node.operator === 'DequantizeLinear') for (const input of node.inputs.slice(1)) packed.add(input);
      if (!PACKED.has(node.operator)) continue;
      for (const input of node.inputs) packed.add(input);
      const weights = (node.numbers.get('K') ?? 0) * (node.numbers.get('N') ?? 0);
      add(counts, `int${node.numbers.get('bits') ?? 4}`, weights);
    } else if (number === 5) {
      const one = readInitializer(wire, span, external);
      initializers.set(one.name, one);
    } else if (number === 11) inputs.push(readPort(wire, span));
    else if (number === 12) outputs.push(readPort(wire, span));
  }
  for (const { name, elements, type } of initializers.values())
    if (!packed.has(name)) add(counts, type.replace(/^u?(int[48])$/, '$1'), elements);
  // Tables of indices and shapes are no weights.
  for (const type of ['int64', 'int32', 'bool']) counts.delete(type);
  const [precision] = [...counts].sort(([, a], [, b]) => b - a)[0] ?? ['unknown'];
  return {
    // A model of old names its weights among the inputs.
    inputs: inputs.filter(({ name }) => !initializers.has(name)),
    outputs,
    producers,
    external: Array.from(external, ([location, bytes]) => ({ location, size: bytes })),
    parameters: [...counts.values()].reduce((sum, count) => sum + count, 0),
    precision,
  };
}

/** NodeProto: 1 input, 2 output, 4 op_type, 5 attribute. AttributeProto: 1 name, 3 i. */
function readNode(
  wire: WireFile,
  span: Span,
): {
  readonly inputs: string[];
  readonly outputs: string[];
  readonly operator: string;
  readonly numbers: ReadonlyMap<string, number>;
} {
  const inputs: string[] = [];
  const outputs: string[] = [];
  const numbers = new Map<string, number>();
  let operator = '';
  for (const field of wire.fields(span)) {
    if (!field.span) continue;
    if (field.number === 1) inputs.push(wire.text(field.span));
    else if (field.number === 2) outputs.push(wire.text(field.span));
    else if (field.number === 4) operator = wire.text(field.span);
    else if (field.number === 5) {
      const attribute = scalars(wire, field.span);
      numbers.set(attribute.text.get(1) ?? '', attribute.number.get(3) ?? 0);
    }
  }
  return { inputs, outputs, operator, numbers };
}

/** TensorProto: 1 dims, 2 data_type, 8 name, 13 external_data (1 key, 2 value). */
function readInitializer(wire: WireFile, span: Span, external: Map<string, number>): Initializer {
  const dims: number[] = [];
  let type = '';
  let name = '';
  const outside = new Map<string, string>();
  for (const field of wire.fields(span)) {
    if (field.number === 1) dims.push(...(field.span ? wire.numbers(field.span) : [field.value]));
    else if (field.number === 2) type = typeName(field);
    else if (field.number === 8 && field.span) name = wire.text(field.span);
    else if (field.number === 13 && field.span) {
      const { text } = scalars(wire, field.span);
      outside.set(text.get(1) ?? '', text.get(2) ?? '');
    }
  }
  const location = outside.get('location');
  if (location !== undefined) {
    const end = Number(outside.get('offset') ?? 0) + Number(outside.get('length') ?? 0);
    external.set(location, Math.max(external.get(location) ?? 0, end));
  }
  return { name, type, elements: dims.reduce((product, size) => product * size, 1) };
}

/** ValueInfoProto: 1 name, 2 type → TypeProto: 1 tensor_type → 1 elem_type, 2 shape → 1 dim → 1 dim_value, 2 dim_param. */
function readPort(wire: WireFile, span: Span): Port {
  let name = '';
  let type = '';
  const shape: (number | string)[] = [];
  for (const field of wire.fields(span)) {
    if (field.number === 1 && field.span) name = wire.text(field.span);
    if (field.number !== 2 || !field.span) continue;
    for (const kind of wire.fields(field.span)) {
      if (kind.number !== 1 || !kind.span) continue;
      for (const part of wire.fields(kind.span)) {
        if (part.number === 1) type = typeName(part);
        if (part.number !== 2 || !part.span) continue;
        for (const dim of wire.fields(part.span)) {
          if (dim.number !== 1 || !dim.span) continue;
          const { text, number } = scalars(wire, dim.span);
          shape.push(number.get(1) ?? text.get(2) ?? '');
        }
      }
    }
  }
  return { name, type, shape };
}

/** The plain fields of a small message. */
function scalars(wire: WireFile, span: Span): { text: Map<number, string>; number: Map<number, number> } {
  const text = new Map<number, string>();
  const number = new Map<number, number>();
  for (const field of wire.fields(span)) {
    if (!field.span) number.set(field.number, field.value);
    // Attributes hold tensors too, which nobody here reads.
    else if (field.value <= 4096) text.set(field.number, wire.text(field.span));
  }
  return { text, number };
}

function typeName(field: Field): string {
  return TYPES[field.value] ?? String(field.value);
}

function add(counts: Map<string, number>, type: string, count: number): void {
  counts.set(type, (counts.get(type) ?? 0) + count);
}
