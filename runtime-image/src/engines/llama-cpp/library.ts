/**
 * Owns the addon in this process: loaded once, for the first device of the wanted order that there is, with the best CPU backend,
 * and its log. Never unloaded; models come and go on it.
 */
import { createRequire } from 'node:module';
import { setTimeout as delay } from 'node:timers/promises';
import { deniedDeviceFiles } from '../../device-files.ts';
import {
  AUTO,
  allowsCpu,
  type DeviceOrder,
  type DeviceWord,
  deviceNotFound,
  fellBack,
  type Missed,
  missingLibraries,
  seesNothing,
} from '../../devices.ts';
import { StartupError } from '../../failures.ts';
import type { LoadObserver } from '../engine.ts';
import type { Bindings } from './addon.ts';
import { missingParts } from './addon-shape.ts';
import {
  type Backend,
  BINDING_VERSION,
  findNativePackages,
  type NativePackage,
  type NativePackages,
  titleOf,
} from './native-files.ts';

export interface Library {
  readonly bindings: Bindings;
  /** Whether the CPU backend computes with OpenMP. */
  readonly openmp: boolean;
  /** What computes the layers; undefined: the processor alone. */
  readonly gpu: Exclude<Backend, 'cpu'> | undefined;
  /** A sentence where the processor computes for want of what was to be preferred. */
  readonly fallback: string | undefined;
}

type Log = LoadObserver['log'];

/** The addon's numbers of levels: 0 is none, 1 fatal. What llama.cpp says of each model, a hundred lines, is for debugging. */
const LEVELS = ['error', 'error', 'error', 'warn', 'debug', 'debug', 'debug'] as const;
const WARNINGS = 3;
const DETAILS = 4;

/** What llama.cpp warns of although it is meant so. */
const AS_MEANT = [
  /the full capacity of the model will not be utilized/,
  /embeddings required but some input tokens were not marked as outputs/,
  /model default pooling_type is \[0\], but \[-1\] was specified/,
  /disabling extra buffer types/,
  /removing '<\|end\|>' token from EOG list/,
];

/**
 * How often a thread looks whether the others are done before it sleeps, about a tenth of a second. libgomp's own tenth of that is
 * too short where another program shares a core: each of a token's thousand meetings then ends in a sleep and a wake-up (with two
 * threads on two cores, one of them busy: 18 tokens a second, and 55 with this).
 */
const SPINS = '3000000';

/** Backends that a word stands for, the better first. */
const BACKENDS: Readonly<Record<DeviceWord, readonly Backend[]>> = {
  npu: [],
  gpu: ['cuda', 'vulkan', 'metal'],
  cuda: ['cuda'],
  vulkan: ['vulkan'],
  webgpu: [],
  cpu: [],
};

/** For the last lines of llama.cpp, which come through the event loop. */
const SAYING_MS = 20;

/** A library beside those of the folder, which ggml loads last. */
const EXTRA_LIBRARY = 'GGML_BACKEND_PATH';

let loading: Promise<Library> | undefined;
const observers = new Set<Log>();

/**
 * Loads the addon. The first call's order decides for the process.
 * @throws StartupError (EngineMismatch, DeviceNotFound)
 */
export function openLibrary(order: DeviceOrder = AUTO): Promise<Library> {
  loading ??= load(order);
  return loading;
}

/**
 * Hears what llama.cpp says from now on. It does not say of which model it speaks: the observer that came last is told.
 * @returns what ends it
 */
export function observeLog(log: Log): () => void {
  // A function of its own: the same observer may come twice.
  const own: Log = (level, message) => log(level, message);
  observers.add(own);
  return () => void observers.delete(own);
}

/** Has llama.cpp say, as debug lines, what it does with a model while `work` goes on. */
export async function withDetails<T>({ bindings }: Library, work: () => Promise<T>): Promise<T> {
  bindings.setLoggerLogLevel(DETAILS);
  try {
    return await work();
  } finally {
    bindings.setLoggerLogLevel(WARNINGS);
  }
}

/** Looks for the devices one after another. */
async function load(order: DeviceOrder): Promise<Library> {
  if (process.env['OMP_WAIT_POLICY'] === undefined) process.env['GOMP_SPINCOUNT'] ??= SPINS;
  const packages = findNativePackages();
  const missed: Missed[] = [];
  let addon: Addon | undefined;
  for (const word of order.words) {
    if (word === 'cpu') break;
    const fitting = packages.filter(({ backend }) => BACKENDS[word].includes(backend));
    if (fitting.length === 0) missed.push(noBackend(word, packages));
    for (const one of fitting) {
      try {
        addon = openAddon(one);
      } catch (error) {
        if (error instanceof StartupError) throw error;
        // Vulkan's addon is linked with the loader of drivers.
        missed.push(whyNot(one.backend, [error instanceof Error ? error.message : String(error)]));
        continue;
      }
      const said = await openGpu(addon, one);
      if (said === undefined) return finish(addon, one.backend as Library['gpu'], undefined);
      missed.push(whyNot(one.backend, said));
    }
  }
  if (!allowsCpu(order)) throw deviceNotFound(order, missed);
  const fallback = missed.length > 0 && !order.auto ? fellBack(order, missed) : undefined;
  return finish(addon ?? openCpu(packages), undefined, fallback);
}

async function finish({ bindings }: Addon, gpu: Library['gpu'], fallback: string | undefined): Promise<Library> {
  await bindings.init();
  return { bindings, openmp: /OPENMP = 1/.test(bindings.systemInfo()), gpu, fallback };
}

interface Addon {
  readonly bindings: Bindings;
  /** Where its CPU backend lies. */
  readonly folder: string;
}

/** Loads an addon with the best CPU backend. */
function openAddon({ addon, cpuBackends }: NativePackage): Addon {
  const bindings = createRequire(import.meta.url)(addon) as Bindings;
  const missing = missingParts(bindings);
  if (missing.length > 0)
    throw new StartupError(
      'EngineMismatch',
      `this server was made for another addon than ${addon}, which lacks ${missing.join(', ')}: install node-llama-cpp ${BINDING_VERSION}.`,
    );
  bindings.setLogger(lines(tell));
  bindings.setLoggerLogLevel(WARNINGS);
  bindings.loadBackends();
  let folder = '';
  for (folder of cpuBackends) {
    bindings.loadBackends(folder);
    // A backend whose libraries are missing is passed over in silence.
    if (bindings.systemInfo().includes('CPU')) break;
  }
  return { bindings, folder };
}

/** For the processor alone. */
function openCpu(packages: NativePackages): Addon {
  const own = packages.find(({ backend }) => backend === 'cpu') ?? packages[0];
  // A GPU that there is would compute long prompts, whatever the layers.
  if (own.backend === 'cuda') process.env['CUDA_VISIBLE_DEVICES'] = '-1';
  if (own.backend === 'vulkan') process.env['GGML_VK_VISIBLE_DEVICES'] = '';
  return openAddon(own);
}

/** @returns what was said where no device was found; undefined: there is one */
async function openGpu({ bindings, folder }: Addon, { gpuLibraries }: NativePackage): Promise<string[] | undefined> {
  const found = () => bindings.getGpuDeviceInfo().deviceNames.length > 0;
  const said: string[] = [];
  const forget = observeLog((level, line) => {
    if (level !== 'debug' || /no devices/i.test(line)) said.push(line);
  });
  const given = process.env[EXTRA_LIBRARY];
  bindings.setLoggerLogLevel(DETAILS);
  try {
    // Where it lies beside the CPU backend, it is loaded by now.
    for (const library of gpuLibraries) {
      if (found()) return undefined;
      process.env[EXTRA_LIBRARY] = library;
      bindings.loadBackends(folder);
    }
    if (found()) return undefined;
    await delay(SAYING_MS);
    return said;
  } finally {
    if (given === undefined) Reflect.deleteProperty(process.env, EXTRA_LIBRARY);
    else process.env[EXTRA_LIBRARY] = given;
    bindings.setLoggerLogLevel(WARNINGS);
    forget();
  }
}

/** Why a backend computes nothing, by what the system's loader or llama.cpp said. */
function whyNot(backend: Backend, said: readonly string[]): Missed {
  const title = titleOf(backend);
  const text = said.join('\n');
  const [first = ''] = said;
  const detail = /no devices found/i.test(text) ? '' : first.replace(/^\w+: /, '');
  return missingLibraries(title, text) ?? seesNothing(title, detail, deniedDeviceFiles());
}

function noBackend(word: DeviceWord, packages: NativePackages): Missed {
  const has = packages.map(({ backend }) => titleOf(backend)).join(' and ');
  const variants = {
    gpu: 'its variant cuda or vulkan',
    cuda: 'its variant cuda',
    vulkan: 'its variant vulkan',
  } as const;
  const needs = word in variants ? variants[word as keyof typeof variants] : 'an image of your own';
  return {
    why:
      word === 'webgpu'
        ? 'WebGPU computes ONNX models only'
        : `this image computes GGUF models on ${has} alone, and ${word} needs ${needs}`,
    lacking: 'image',
  };
}

function tell(level: number, message: string): void {
  const known = LEVELS[level] ?? 'debug';
  const quiet = known === 'warn' && AS_MEANT.some((pattern) => pattern.test(message));
  [...observers].at(-1)?.(quiet ? 'debug' : known, message);
}

/** llama.cpp prints parts of lines. Exported for its test. */
export function lines(tell: (level: number, line: string) => void): (level: number, text: string) => void {
  let part = '';
  let partLevel = 0;
  const flush = () => {
    if (part.trim() !== '') tell(partLevel, part.trimEnd());
    part = '';
  };
  return (level, text) => {
    if (level !== partLevel) flush();
    partLevel = level;
    part += text;
    const end = part.lastIndexOf('\n');
    if (end < 0) return;
    const rest = part.slice(end + 1);
    part = part.slice(0, end);
    flush();
    part = rest;
  };
}
