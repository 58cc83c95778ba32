/**
 * Finds the GGUF file to load and says what is wrong with one that cannot be. Reads a few bytes only; parsing is the
 * library's work.
 */
import { open, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { StartupError } from '../../failures.ts';

const MAGIC = 'GGUF';
/** Version 1 had 32-bit lengths and died in 2023. */
const VERSIONS = [2, 3];
/** Magic, version, number of tensors, number of metadata entries. */
const HEADER_BYTES = 24;

/**
 * Checks that `file` begins like a GGUF file.
 * @throws StartupError (ModelNotFound, ModelUnreadable, NotAModel, ModelTruncated)
 */
export async function checkGguf(file: string): Promise<{ readonly size: number }> {
  const name = path.basename(file);
  const handle = await open(file, 'r').catch((error: NodeJS.ErrnoException) => {
    throw unreadable(file, error);
  });
  try {
    const { size } = await handle.stat();
    const header = Buffer.alloc(HEADER_BYTES);
    const { bytesRead } = await handle.read(header, 0, HEADER_BYTES, 0).catch((error: NodeJS.ErrnoException) => {
      throw unreadable(file, error);
    });
    const magic = header.toString('latin1', 0, 4);
    if (bytesRead < 4 || magic !== MAGIC)
      throw new StartupError(
        'NotAModel',
        size === 0
          ? `${name} is empty: the source must give a GGUF file.`
          : `${name} is no GGUF file: it begins with ${describe(header.subarray(0, bytesRead))}. ` +
              'Point source.uri at a .gguf file.',
      );
    if (bytesRead < HEADER_BYTES) throw truncated(name, size);
    const version = header.readUInt32LE(4);
    if (!VERSIONS.includes(version))
      throw new StartupError(
        'NotAModel',
        `${name} has GGUF version ${version}; this server reads ${VERSIONS.join(' and ')}. Convert the model again.`,
      );
    return { size };
  } finally {
    await handle.close();
  }
}

/**
 * The GGUF file in a folder: the only one, or the first of a split model.
 * @returns undefined when the folder holds none
 * @throws StartupError (NotAModel) when there are several
 */
export async function findGguf(folder: string): Promise<string | undefined> {
  const files = (await readdir(folder, { recursive: true }))
    .filter((file) => file.toLowerCase().endsWith('.gguf'))
    .sort();
  const first = files.find((file) => /-0*1-of-\d+\.gguf$/i.test(file));
  const others = files.filter((file) => !/-\d+-of-\d+\.gguf$/i.test(file) && !/mmproj/i.test(path.basename(file)));
  const candidates = first === undefined ? others : [first, ...others];
  if (candidates.length > 1)
    throw new StartupError(
      'NotAModel',
      `the model has several GGUF files (${candidates.join(', ')}): name one in source.files.`,
    );
  return candidates[0] === undefined ? undefined : path.join(folder, candidates[0]);
}

/** As ggml's backends say that a device's memory, or one piece of it, was too small. */
const OUT_OF_DEVICE_MEMORY =
  /(?:allocate|allocating|alloc_buffer)[^\n]*\b(?:CUDA|Vulkan|MTL)\d|cudaMalloc failed|ggml_vulkan: (?:Device memory allocation|Requested buffer)|ErrorOutOfDeviceMemory|CUDA error: out of memory|kIOGPUCommandBufferCallbackErrorOutOfMemory/i;

/** What the library and llama.cpp say, turned into a reason. `log` holds llama.cpp's own lines. */
export function explainLoadFailure(file: string, size: number, error: Error, log: readonly string[]): StartupError {
  const name = path.basename(file);
  const said = [error.message, ...log].join('\n');
  const cause = { cause: error };
  if (
    /not within the file bounds|tensor .* is out of|failed to read|unexpected end|EOF|out of range|outside buffer/i.test(
      said,
    )
  )
    return truncated(name, size, cause);
  const architecture = /unknown model architecture: '?([^'\s]+)'?/i.exec(said)?.[1];
  if (architecture) return unsupportedArchitecture(name, architecture, cause);
  if (OUT_OF_DEVICE_MEMORY.test(said))
    return new StartupError(
      'InsufficientDeviceMemory',
      `the device has not enough memory for ${name} (${size} bytes) and its context: lower engine.contextLength, ` +
        'engine.parallelRequests or engine.gpuLayers, or use a smaller variant of the model.',
      cause,
    );
  if (/alloc|out of memory|cannot allocate|insufficient memory/i.test(said))
    return new StartupError(
      'ModelLoadFailed',
      `there is not enough memory for ${name} (${size} bytes) and its context: raise resources.limits.memory, ` +
        'or lower engine.contextLength or engine.parallelRequests.',
      cause,
    );
  const detail = log.at(-1)?.trim() || error.message;
  return new StartupError('ModelLoadFailed', `${name} could not be loaded: ${detail}`, cause);
}

/** For an architecture that this llama.cpp does not know. */
export function unsupportedArchitecture(name: string, architecture: string, options?: ErrorOptions): StartupError {
  return new StartupError(
    'UnsupportedArchitecture',
    `${name} has the architecture "${architecture}", which this server's llama.cpp does not know: ` +
      'use a newer server image or another model.',
    options,
  );
}

/** Of llama.cpp's description, such as `gemma3 270M Q4_K - Medium`, the last part as people write it: Q4_K_M. */
export function quantizationOf(description: string): string {
  const type = description
    .replace(/\(guessed\)/, '')
    .trim()
    .split(' ')
    .slice(2)
    .join(' ');
  return (
    type
      .replace(/^(mostly|all) /, '')
      .replace(/,.*$/, '')
      .replace(/ - (\w)\w*$/, '_$1') || 'unknown'
  );
}

/** Whether a path is a folder. @throws StartupError (ModelNotFound, ModelUnreadable) */
export async function isFolder(file: string): Promise<boolean> {
  const found = await stat(file).catch((error: NodeJS.ErrnoException) => {
    throw unreadable(file, error);
  });
  return found.isDirectory();
}

function truncated(name: string, size: number, options?: ErrorOptions): StartupError {
  return new StartupError(
    'ModelTruncated',
    `${name} ends too early (${size} bytes): the copy is incomplete. Fetch it again, and set integrity.digest.`,
    options,
  );
}

function unreadable(file: string, error: NodeJS.ErrnoException): StartupError {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR')
    return new StartupError('ModelNotFound', `there is no model at ${file}: check SLM_MODEL_PATH.`, { cause: error });
  return new StartupError('ModelUnreadable', `${file} cannot be read (${error.code ?? error.message}).`, {
    cause: error,
  });
}

function describe(bytes: Buffer): string {
  const text = bytes.toString('latin1', 0, 15);
  return /^[\x20-\x7e\s]+$/.test(text) ? JSON.stringify(text) : `bytes ${bytes.toString('hex', 0, 4)}`;
}
