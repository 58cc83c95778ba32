/**
 * ONNX Runtime as we use it: how a session is opened, and typed arrays for tensor types. Imported by the engine's thread
 * alone, late, so that a server of GGUF models never loads the library.
 */
import type * as onnxruntime from 'onnxruntime-node';
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import type { TensorSpec } from './model-spec.ts';

export type Runtime = typeof onnxruntime;

/** Numbers of keys, values and logits. */
export type Floats = Float32Array | HalfFloats;

/** The language's own Float16Array, which TypeScript's library of this target does not have yet. */
interface HalfFloats extends Omit<Float32Array, 'subarray' | 'slice'> {
  subarray(begin?: number, end?: number): HalfFloats;
}
const Float16 = (
  globalThis as unknown as {
    readonly Float16Array: new (buffer: ArrayBufferLike | number, offset?: number, length?: number) => HalfFloats;
  }
).Float16Array;

/**
 * Loads the library. Its native part knows numbers of 16 bits as whole ones only, and its JavaScript part hands it what the
 * language has: on this thread, which is ours alone, the language has no Float16Array.
 */
export async function loadRuntime(): Promise<Runtime> {
  Reflect.deleteProperty(globalThis, 'Float16Array');
  return import('onnxruntime-node');
}

/**
 * @param provider what computes; the processor computes what it cannot
 * @returns the session. Throws ONNX Runtime's own errors, which explain.ts knows.
 */
export async function openSession(
  runtime: Runtime,
  file: string,
  threads: number,
  provider: 'cpu' | 'cuda' | 'webgpu' = 'cpu',
): Promise<InferenceSession> {
  // Warnings about initializers and nodes are for those who export models.
  // What a device lacks is said by us.
  runtime.env.logLevel = provider === 'cpu' ? 'error' : 'fatal';
  return runtime.InferenceSession.create(file, {
    executionProviders: provider === 'cpu' ? ['cpu'] : [provider, 'cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    // What goes wrong is thrown as well, and said by us.
    logSeverityLevel: 4,
    extra: {
      session: {
        // Threads that wait by spinning take a core that the server, or the neighbour in the node, could use.
        intra_op: { allow_spinning: '0' },
      },
    },
  });
}

/** A tensor with these whole numbers. */
export function integers(
  runtime: Runtime,
  spec: TensorSpec,
  values: ArrayLike<number>,
  dims: readonly number[],
): Tensor {
  if (spec.type === 'int32') return new runtime.Tensor('int32', Int32Array.from(values), dims);
  const numbers = new BigInt64Array(values.length);
  for (let index = 0; index < values.length; index++) numbers[index] = BigInt(values[index] as number);
  return new runtime.Tensor('int64', numbers, dims);
}

/** Room for keys, values or logits, filled with zeros when it is first touched. */
export function makeFloats(type: string, length: number): Floats {
  return type === 'float16' ? new Float16(length) : new Float32Array(length);
}

/** A tensor over such room. */
export function floatTensor(runtime: Runtime, type: string, data: Floats, dims: readonly number[]): Tensor {
  if (type !== 'float16') return new runtime.Tensor('float32', data as Float32Array, dims);
  return new runtime.Tensor('float16', new Uint16Array(data.buffer as ArrayBuffer, data.byteOffset, data.length), dims);
}

/** The numbers of such a tensor. */
export function floatsOf(tensor: Tensor): Floats {
  const data = tensor.data as Float32Array | Uint16Array;
  return data instanceof Uint16Array ? new Float16(data.buffer, data.byteOffset, data.length) : data;
}
