/**
 * What the supervisor hands to the server process that it starts: the sockets it holds, and why earlier ones ended. Owns how
 * that is written into the arguments; starts nothing.
 */

export interface WorkerState {
  /** File descriptors of bound sockets, in the order of the ports. */
  readonly sockets: readonly number[];
  /** Server processes that crashed before this one, by signal, or `exception` for an error in JavaScript. */
  readonly restarts: Readonly<Record<string, number>>;
}

const FLAG = '--worker=';

/** The exit code of a server that was ready and then met an error that nobody caught (EX_SOFTWARE). */
export const EXCEPTION_EXIT_CODE = 70;

/** Arguments for a server process. */
export function workerArguments(state: WorkerState): string[] {
  return [`${FLAG}${JSON.stringify(state)}`];
}

/** @returns undefined for a process that no supervisor started */
export function workerState(argv: readonly string[]): WorkerState | undefined {
  const text = argv.find((argument) => argument.startsWith(FLAG));
  return text === undefined ? undefined : (JSON.parse(text.slice(FLAG.length)) as WorkerState);
}
