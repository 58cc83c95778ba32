/**
 * Why the server cannot start, as a reason for programs and a sentence for people. Owns exit codes and the termination
 * message; decides nothing about retries.
 */
import { closeSync, openSync, writeSync } from 'node:fs';

/** Closed set; part of the contract with whoever reads the termination message. */
export type StartupReason =
  | 'InvalidConfiguration'
  | 'ModelNotFound'
  | 'ModelUnreadable'
  | 'NotAModel'
  | 'ModelTruncated'
  | 'UnsupportedArchitecture'
  | 'UnsupportedFormat'
  | 'ContextTooLong'
  | 'ModelLoadFailed'
  | 'EngineMismatch'
  | 'EngineCrashed'
  | 'DeviceNotFound'
  | 'InsufficientDeviceMemory'
  | 'InvalidCertificate'
  | 'PortInUse';

/** Exit codes: 2 for what the environment says, 3 for what the model is, 4 for what the device is, 1 for the rest. */
const EXIT_CODES: Partial<Record<StartupReason, number>> = {
  InvalidConfiguration: 2,
  InvalidCertificate: 2,
  ContextTooLong: 2,
  ModelNotFound: 3,
  ModelUnreadable: 3,
  NotAModel: 3,
  ModelTruncated: 3,
  UnsupportedArchitecture: 3,
  UnsupportedFormat: 3,
  DeviceNotFound: 4,
  InsufficientDeviceMemory: 4,
};

/** Ends the process with a clear sentence instead of a stack trace. */
export class StartupError extends Error {
  readonly reason: StartupReason;

  constructor(reason: StartupReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'StartupError';
    this.reason = reason;
  }

  get exitCode(): number {
    return EXIT_CODES[this.reason] ?? 1;
  }
}

/** Kubernetes shows at most this many bytes of it. */
const LONGEST_MESSAGE = 4096;

/**
 * Leaves `REASON: SENTENCE` where the kubelet copies it into the container's status, and the operator into its own.
 * Does nothing where that file does not exist already: outside a pod.
 */
export function writeTerminationMessage(
  error: { reason: string; message: string },
  file = '/dev/termination-log',
): void {
  let fd: number;
  try {
    fd = openSync(file, 'r+');
  } catch {
    return;
  }
  try {
    writeSync(fd, Buffer.from(`${error.reason}: ${error.message}`).subarray(0, LONGEST_MESSAGE));
  } catch {
    // The log line says the same; there is nowhere else to tell.
  } finally {
    closeSync(fd);
  }
}

/**
 * Ends the process with one line that says why; it is written before the end, so whoever looks finds it last.
 * @param exitCode of an error that is no StartupError
 */
export function fail(error: unknown, exitCode = 1): void {
  const known = error instanceof StartupError;
  const message = error instanceof Error ? error.message : String(error);
  const reason = known ? error.reason : 'InternalError';
  const detail = known ? {} : { stack: error instanceof Error ? error.stack : undefined };
  const line = JSON.stringify({ level: 'fatal', time: Date.now(), reason, msg: message, ...detail });
  process.stdout.write(`${line}\n`, () => {
    writeTerminationMessage({ reason, message });
    process.exit(known ? error.exitCode : exitCode);
  });
}

/** Why a port cannot be had. */
export function portError(error: NodeJS.ErrnoException, host: string | undefined, port: number): StartupError {
  const sentence =
    error.code === 'EADDRINUSE'
      ? `port ${port} is in use: set SLM_PORT or SLM_OPENAI_PORT to another`
      : `port ${port} cannot be opened on ${host ?? 'any address'}: ${error.message}`;
  return new StartupError('PortInUse', `${sentence}.`, { cause: error });
}
