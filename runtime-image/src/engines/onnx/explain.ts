/** What ONNX Runtime says when it cannot load a model, turned into a reason and a sentence. */
import path from 'node:path';
import { StartupError, type StartupReason } from '../../failures.ts';

interface Explanation {
  readonly pattern: RegExp;
  readonly reason: StartupReason;
  /** @param found what the pattern's groups hold */
  readonly say: (name: string, found: readonly string[]) => string;
}

const EXPLANATIONS: readonly Explanation[] = [
  {
    pattern: /Unsupported model IR version: (\d+), max supported IR version: (\d+)/,
    reason: 'UnsupportedFormat',
    say: (name, [found, most]) =>
      `${name} has IR version ${found}, and this server's ONNX Runtime reads up to ${most}: export it with an older version of onnx, or use a newer server image.`,
  },
  {
    pattern: /Opset (\d+) is under development[\s\S]*?official support for domain (\S+) is till opset (\d+)/,
    reason: 'UnsupportedFormat',
    say: (name, [found, domain, most]) =>
      `${name} uses opset ${found} of ${domain}, and this server's ONNX Runtime knows up to ${most}: export it with --opset ${most}, or use a newer server image.`,
  },
  {
    pattern: /No Op registered for (\S+) with domain_version of (\d+)/,
    reason: 'UnsupportedFormat',
    say: (name, [operator, version]) =>
      `${name} uses the operator ${operator} (opset ${version}), which this server's ONNX Runtime does not know: use another export of the model, or a newer server image.`,
  },
  {
    pattern: /(\S+?)(?:\((-?\d+)\))? is not a registered function\/op/,
    reason: 'UnsupportedFormat',
    say: (name, [operator]) =>
      `${name} uses the operator ${operator}, which this server's ONNX Runtime does not know: use another export of the model, or a newer server image.`,
  },
  {
    pattern: /Could not find an implementation for (\S+?)\((\d+)\)/,
    reason: 'UnsupportedFormat',
    say: (name, [operator]) =>
      `${name} uses ${operator} with types that ONNX Runtime cannot compute on a CPU: use a variant of the model for CPUs, such as int4 or int8 with float32.`,
  },
  {
    pattern: /Type Error|tensor type|Invalid tensor data type|is not a supported type/i,
    reason: 'UnsupportedFormat',
    say: (name) =>
      `${name} has tensors of types that this server's ONNX Runtime does not know, or that do not fit together: use another export of the model.`,
  },
  {
    pattern: /escapes (?:the )?model directory|symlink/i,
    reason: 'ModelUnreadable',
    say: (name) =>
      `the weights of ${name} are links that leave its folder, which ONNX Runtime refuses: put the files themselves there, or hard links.`,
  },
  {
    pattern:
      /CUDA out of memory|cudaErrorMemoryAllocation|CUDA failure 2:|VK_ERROR_OUT_OF_DEVICE_MEMORY|BFCArena[\s\S]*Failed to allocate/i,
    reason: 'InsufficientDeviceMemory',
    say: (name) =>
      `the device has not enough memory for ${name}: lower engine.contextLength or engine.parallelRequests, or use a smaller variant of the model.`,
  },
  {
    pattern: /bad_alloc|out of memory|Failed to allocate memory|cannot allocate|buffer allocation failed/i,
    reason: 'ModelLoadFailed',
    say: (name) =>
      `there is not enough memory for ${name}: raise resources.limits.memory, or lower engine.contextLength or engine.parallelRequests.`,
  },
  {
    pattern: /Protobuf parsing failed|INVALID_PROTOBUF/i,
    reason: 'NotAModel',
    say: (name) => `${name} is no ONNX model: point source.uri at one.`,
  },
];

/** @param error as ONNX Runtime threw it */
export function explainLoadFailure(file: string, error: Error): StartupError {
  // Of a device: thrown on the engine's thread, and told to us by its name and message.
  if (error.name === 'DeviceNotFound') return new StartupError('DeviceNotFound', error.message);
  const name = path.basename(file);
  for (const { pattern, reason, say } of EXPLANATIONS) {
    const found = pattern.exec(error.message);
    if (found) return new StartupError(reason, say(name, found.slice(1)), { cause: error });
  }
  return new StartupError('ModelLoadFailed', `${name} could not be loaded: ${error.message.split('\n')[0]}`, {
    cause: error,
  });
}
