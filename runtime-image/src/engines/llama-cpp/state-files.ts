/**
 * Files for saved states, in memory where the system has such a folder. Owns the folder and takes it away; one that a
 * process left behind when it died goes with the next start.
 */
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const MEMORY = '/dev/shm';
const PREFIX = 'slm-prompts-';

export class StateFiles {
  readonly #folder: string;
  #count = 0;

  constructor(parent = existsSync(MEMORY) ? MEMORY : tmpdir()) {
    for (const name of readdirSync(parent))
      if (
        name.startsWith(PREFIX) &&
        isLeftOver(path.join(parent, name), Number.parseInt(name.slice(PREFIX.length), 10))
      )
        rmSync(path.join(parent, name), { recursive: true, force: true });
    // Prompts are nobody else's business.
    this.#folder = path.join(parent, `${PREFIX}${process.pid}-${crypto.randomUUID()}`);
    mkdirSync(this.#folder, { mode: 0o700 });
  }

  /** A path that nothing else uses. */
  next(): string {
    return path.join(this.#folder, String(this.#count++));
  }

  drop(file: string): void {
    try {
      unlinkSync(file);
    } catch {
      // It was never written, or the folder is gone.
    }
  }

  dispose(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function isLeftOver(folder: string, pid: number): boolean {
  // In a container every life of the server has the same process id.
  if (pid === process.pid) return statSync(folder).mtimeMs < Date.now() - process.uptime() * 1000;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}
