/**
 * The parent of the server process. Holds the sockets, so that connections wait in their backlog while a server that crashed
 * in native code is replaced; starts, restarts and counts servers; hands on signals and exit codes. Never accepts a
 * connection, reads a request or loads a model, and imports next to nothing, because it costs memory as long as a server runs.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { BoundSocket, isIP } from 'node:net';
import { constants } from 'node:os';
import { readConfig } from './config.ts';
import { portError, StartupError } from './failures.ts';
import { EXCEPTION_EXIT_CODE, workerArguments } from './worker-state.ts';

/** What the kernel or the C library ends a broken program with. SIGKILL is not among them: that was memory, or somebody. */
const CRASHES: ReadonlySet<string> = new Set([
  'SIGSEGV',
  'SIGABRT',
  'SIGBUS',
  'SIGILL',
  'SIGFPE',
  'SIGTRAP',
  'SIGSYS',
  'exception',
]);

/**
 * Waits before a restart, in milliseconds. The first is at once, since a crash is mostly one request's; whoever crashes once
 * more than there are waits, within WINDOW_MS, is left to the kubelet and its patience.
 */
const WAITS = [0, 250, 1000, 4000] as const;
const WINDOW_MS = 10 * 60_000;

/** Counts crashes and says how long to wait before the next start. */
export class CrashCounter {
  /** Of the supervisor's whole life. */
  readonly total: Record<string, number> = {};
  #recent: number[] = [];

  /**
   * @param now milliseconds that never go back
   * @returns milliseconds to wait, or undefined when there were too many
   */
  add(cause: string, now: number): number | undefined {
    this.total[cause] = (this.total[cause] ?? 0) + 1;
    this.#recent = [...this.#recent.filter((time) => now - time < WINDOW_MS), now];
    return WAITS[this.#recent.length - 1];
  }
}

/**
 * Runs servers until one ends in good order, or for a reason that a restart would not cure; then ends the process likewise.
 * @throws StartupError for bad settings and for ports that cannot be had
 */
export async function supervise(env: NodeJS.ProcessEnv): Promise<void> {
  const config = readConfig(env);
  const ports = [config.port, ...(config.openaiPort === undefined ? [] : [config.openaiPort])];
  const sockets = await bind(config.host, ports);
  const crashes = new CrashCounter();
  let child: ChildProcess | undefined;
  let stopping: NodeJS.Signals | undefined;

  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    process.on(signal, () => {
      stopping = signal;
      // Between two servers there is nobody to ask.
      if (child) child.kill(signal);
      else process.exit(0);
    });

  const log = (fields: object, msg: string) => {
    if (config.logLevel === 'silent') return;
    process.stdout.write(`${JSON.stringify({ level: 'error', time: Date.now(), ...fields, msg })}\n`);
  };

  const start = () => {
    const fds = sockets.map((socket) => socket.fd());
    const state = { sockets: fds.map((_, index) => FIRST_SOCKET + index), restarts: crashes.total };
    const running = spawn(process.execPath, [process.argv[1] ?? '', ...workerArguments(state)], {
      // The channel carries nothing: it closes when this process ends in whichever way, and the server with it.
      stdio: ['inherit', 'inherit', 'inherit', 'ipc', ...fds],
      env: {
        // Each model that computes occupies a thread of this pool; files and names need some as well.
        UV_THREADPOOL_SIZE: String(config.models.maxLoaded + 2),
        // By default glibc gives each of those threads a heap of its own, which grows for hours: 50 MiB and more for nothing.
        MALLOC_ARENA_MAX: '2',
        ...env,
      },
    });
    child = running;
    running.once('error', (error) => {
      throw error;
    });
    running.once('exit', (code, signal) => {
      child = undefined;
      ended(code, signal);
    });
  };

  const ended = (code: number | null, signal: NodeJS.Signals | null) => {
    const cause = signal ?? (code === EXCEPTION_EXIT_CODE ? 'exception' : undefined);
    const exitCode = signal === null ? (code ?? 1) : 128 + constants.signals[signal];
    // It had not yet learnt to end in good order, and ended as asked.
    if (stopping !== undefined && signal === stopping) process.exit(0);
    if (stopping !== undefined || cause === undefined || !CRASHES.has(cause)) process.exit(exitCode);
    const wait = crashes.add(cause, performance.now());
    if (wait === undefined)
      throw new StartupError(
        'EngineCrashed',
        `the server process crashed ${WAITS.length + 1} times within ${WINDOW_MS / 60_000} minutes, the last time by ${cause}: the lines before say what it did; another model file or another image may help.`,
      );
    log(
      { reason: 'EngineCrashed', cause, restarts: crashes.total, waitMs: wait },
      'the server process crashed; starting another',
    );
    if (wait === 0) start();
    else setTimeout(start, wait);
  };

  start();
}

/** Standard input, output and error, and the channel come before. */
const FIRST_SOCKET = 4;

/** Sockets that are bound and do not listen yet: the server's listen() on them begins the backlog, and it outlives the server. */
async function bind(host: string | undefined, ports: readonly number[]): Promise<BoundSocket[]> {
  const address = host === undefined ? undefined : await resolve(host);
  return ports.map((port) => {
    try {
      if (address !== undefined) return new BoundSocket({ host: address, port });
      try {
        return new BoundSocket({ host: '::', port });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') throw error;
        // No IPv6 on this machine.
        return new BoundSocket({ host: '0.0.0.0', port });
      }
    } catch (error) {
      throw portError(error as NodeJS.ErrnoException, host, port);
    }
  });
}

async function resolve(host: string): Promise<string> {
  if (isIP(host) !== 0) return host;
  try {
    const { lookup } = await import('node:dns/promises');
    return (await lookup(host)).address;
  } catch (error) {
    throw new StartupError('InvalidConfiguration', `SLM_HOST=${host} is no address of this machine.`, { cause: error });
  }
}
