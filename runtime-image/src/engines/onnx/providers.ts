/**
 * What ONNX Runtime computes with: opens a model with the first execution provider of the wanted order that works. Runs on the
 * engine's thread.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import type { DeviceReport } from '@slm-operator/crds/contract';
import type { InferenceSession } from 'onnxruntime-node';
import { deniedDeviceFiles } from '../../device-files.ts';
import {
  allowsCpu,
  type DeviceOrder,
  type DeviceWord,
  deviceNotFound,
  type Missed,
  missingLibraries,
  processor,
  seesNothing,
} from '../../devices.ts';
import { openSession, type Runtime } from './session.ts';

/** As sessions are opened with; the library's own names are in {@link reportDevice}. */
export type ProviderName = 'cpu' | 'cuda' | 'webgpu';

const TITLES = {
  cpu: { backend: 'CPU', provider: 'CPUExecutionProvider' },
  cuda: { backend: 'CUDA', provider: 'CUDAExecutionProvider' },
  webgpu: { backend: 'WebGPU', provider: 'WebGpuExecutionProvider' },
} as const;

/** Providers that a word stands for, the better first. WebGPU computes by Vulkan. */
const PROVIDERS: Readonly<Record<DeviceWord, readonly ProviderName[]>> = {
  npu: [],
  gpu: ['cuda', 'webgpu'],
  cuda: ['cuda'],
  vulkan: ['webgpu'],
  webgpu: ['webgpu'],
  cpu: ['cpu'],
};

/** Its first line of an error that is the device's and not the model's. */
const NO_DEVICE =
  /WebGPU adapter|Failed to load (?:shared )?library|providers_shared|ExecutionProvider|no CUDA-capable|CUDA driver|CUDA failure (?:3|35|100|101|999)|cudaErrorNoDevice|libcud|libcub|not supported in current build|device lost/i;

export interface OpenedSession {
  readonly session: InferenceSession;
  readonly provider: ProviderName;
  /** What was tried before in vain. */
  readonly missed: readonly Missed[];
}

/** @throws StartupError (DeviceNotFound); ONNX Runtime's own errors for what is wrong with the model */
export async function openOnDevice(
  runtime: Runtime,
  file: string,
  threads: number,
  order: DeviceOrder,
): Promise<OpenedSession> {
  const missed: Missed[] = [];
  for (const word of order.words) {
    const names = PROVIDERS[word].filter((name) => !order.auto || isWorthATry(name));
    if (names.length === 0) missed.push(noProvider(word));
    for (const provider of names) {
      if (provider === 'cuda' && !hasCuda()) {
        missed.push({
          why: 'CUDA’s execution provider is not in this image, but in its variant cuda',
          lacking: 'image',
        });
        continue;
      }
      try {
        return { session: await openSession(runtime, file, threads, provider), provider, missed };
      } catch (error) {
        const said = error instanceof Error ? error.message : String(error);
        if (provider === 'cpu' || !NO_DEVICE.test(said)) throw error;
        missed.push(whyNot(provider, said));
      }
    }
  }
  throw deviceNotFound(order, missed);
}

/** Where nobody asked, only what is in the image for its own sake: looking for WebGPU's devices takes a second. */
function isWorthATry(name: ProviderName): boolean {
  return name === 'cpu' || (name === 'cuda' && hasCuda());
}

function hasCuda(): boolean {
  return cudaProvider() !== undefined;
}

/** CUDA's provider is a file beside ONNX Runtime's own. */
function cudaProvider(): string | undefined {
  const requireHere = createRequire(import.meta.url);
  const folder = path.join(path.dirname(requireHere.resolve('onnxruntime-node')), '..', 'bin');
  return readdirSync(folder)
    .map((abi) => path.join(folder, abi, process.platform, process.arch, 'libonnxruntime_providers_cuda.so'))
    .find((file) => existsSync(file));
}

function whyNot(provider: 'cuda' | 'webgpu', said: string): Missed {
  const file = cudaProvider();
  // ONNX Runtime writes to its log alone which library was missing.
  if (provider === 'cuda' && file !== undefined && /Failed to load/i.test(said))
    try {
      process.dlopen({ exports: {} }, file);
    } catch (error) {
      const missing = missingLibraries('CUDA', String(error));
      if (missing) return missing;
    }
  return seesNothing(TITLES[provider].provider, inFewWords(said), deniedDeviceFiles());
}

function noProvider(word: DeviceWord): Missed {
  return {
    why: `no execution provider of this image computes on ${word}, which needs an image of your own`,
    lacking: 'image',
  };
}

/** ONNX Runtime puts source files and functions before what it has to say. */
function inFewWords(said: string): string {
  const [line = ''] = said.split('\n');
  return line.replace(/^.*?(?:was false\. |with error: |\] )/, '').slice(0, 200);
}

/** What the engine opened, for whoever looks after it. */
export function reportDevice(provider: ProviderName): DeviceReport {
  const { backend, provider: executionProvider } = TITLES[provider];
  if (provider === 'cpu') return { ...processor(), executionProvider };
  return { class: 'gpu', backend, name: gpuName(), executionProvider };
}

/** ONNX Runtime names no devices; NVIDIA's driver does. */
function gpuName(folder = '/proc/driver/nvidia/gpus'): string {
  try {
    const names = readdirSync(folder).flatMap((bus) => {
      const text = readFileSync(path.join(folder, bus, 'information'), 'utf8');
      return /^Model:\s*(.+)$/m.exec(text)?.[1]?.trim() ?? [];
    });
    if (names.length > 0) return [...new Set(names)].join(', ');
  } catch {
    // No NVIDIA driver, or its files are hidden from containers.
  }
  return 'GPU';
}

/** Whether the processor computes although something else was to be preferred. */
export function isFallback(provider: ProviderName, order: DeviceOrder): boolean {
  return provider === 'cpu' && !order.auto && allowsCpu(order) && order.words[0] !== 'cpu';
}
