/** Owns running a program to its end and reading what it said. Never a shell, never a process that stays. */
import { spawn } from 'node:child_process';
import { lastLines } from './errors.ts';

/** What a finished program left. */
export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** How a program is run. */
export interface CommandOptions {
  /** Text for its standard input; without it the input is empty. */
  readonly input?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Called for each line of standard error while it runs. */
  readonly onErrorLine?: (line: string) => void;
  /** Called for each line of standard output while it runs. */
  readonly onOutputLine?: (line: string) => void;
  readonly signal?: AbortSignal;
}

/** Runs a program and returns its exit code and output, whatever the code is; 127 when there is no such program. */
export async function tryCommand(command: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const [program, ...args] = command;
  if (!program) throw new Error('an empty command');
  const child = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(options.env ? { env: options.env } : {}),
    ...(options.cwd ? { cwd: options.cwd } : {}),
    ...(options.signal ? { signal: options.signal } : {}),
  });
  let stdout = '';
  let stderr = '';
  const outputLines = lineSplitter(options.onOutputLine);
  const errorLines = lineSplitter(options.onErrorLine);
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    outputLines(text);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    errorLines(text);
  });
  // A program that ends without reading its input closes the pipe; its exit code tells what matters.
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.input ?? '');
  const code = await new Promise<number>((resolve, reject) => {
    child.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') return reject(error);
      stderr += `there is no program "${program}"\n`;
      resolve(127);
    });
    child.on('close', (exitCode, signal) => resolve(exitCode ?? (signal ? 128 : 1)));
  });
  return { code, stdout, stderr };
}

/** Passes whole lines on, as pieces of text come. */
function lineSplitter(onLine: ((line: string) => void) | undefined): (text: string) => void {
  let partial = '';
  return (text) => {
    if (!onLine) return;
    const lines = (partial + text).split('\n');
    partial = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  };
}

/** Runs a program and returns its standard output. Throws with what it said when its exit code is not 0. */
export async function runCommand(command: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await tryCommand(command, options);
  if (code !== 0)
    throw new Error(`${command.slice(0, 4).join(' ')} … ended with ${code}: ${lastLines(stderr || stdout)}`);
  return stdout;
}

/** Whether a program of that name is on the PATH. */
export async function isInstalled(program: string): Promise<boolean> {
  const found = await tryCommand(['sh', '-c', 'command -v "$0"', program]);
  return found.code === 0;
}
