/**
 * Owns how long work is shown: one living line on a terminal, plain lines anywhere else (pipes, CI logs).
 * Never decides what is done, and never writes to standard output, which belongs to results.
 */

/** A piece of work that is under way. */
export interface Step {
  /** Says how far the step is. `leftSeconds` is an estimate of what remains of it. */
  update(detail: string, leftSeconds?: number): void;
  /** Ends the step; `detail` is what came of it. */
  done(detail?: string): void;
}

/** Where steps are shown. */
export interface Progress {
  /** Starts a step. Several may run at once; on a terminal the living line shows the youngest. */
  step(title: string): Step;
  /** Shows one line that is true on its own. */
  note(line: string): void;
}

/** What {@link makeProgress} needs of the world; replaced in tests. */
export interface ProgressOutput {
  write(text: string): void;
  /** Whether lines may be rewritten. */
  readonly isTerminal: boolean;
  /** Milliseconds, monotonic. */
  now(): number;
  /** Characters that fit on one line of a terminal. */
  columns(): number;
}

const standardError: ProgressOutput = {
  write: (text) => void process.stderr.write(text),
  isTerminal: process.stderr.isTTY,
  now: () => performance.now(),
  columns: () => process.stderr.columns || 80,
};

/** Without a terminal a long step says that it is still alive this often. */
const PLAIN_INTERVAL_MS = 30_000;
const REDRAW_INTERVAL_MS = 500;

/** Shows progress on standard error, or on `output`. */
export function makeProgress(output: ProgressOutput = standardError): Progress {
  const started = output.now();
  const live: { line: () => string }[] = [];
  let drawn = false;
  let timer: NodeJS.Timeout | undefined;

  const erase = () => {
    if (drawn) output.write('\r\u001B[2K');
    drawn = false;
  };
  const draw = () => {
    const youngest = live.at(-1);
    if (!output.isTerminal || !youngest) return;
    erase();
    output.write(youngest.line().slice(0, output.columns() - 1));
    drawn = true;
  };
  const print = (line: string) => {
    erase();
    output.write(`[${seconds(output.now() - started).padStart(8)}] ${line}\n`);
    draw();
  };
  const retime = () => {
    if (live.length === 0 || !output.isTerminal) {
      clearInterval(timer);
      timer = undefined;
    } else {
      timer ??= setInterval(draw, REDRAW_INTERVAL_MS).unref();
    }
  };

  return {
    note: print,
    step(title) {
      const begun = output.now();
      let detail = '';
      let left: number | undefined;
      let shown = begun;
      const entry = {
        line: () =>
          [title, detail, seconds(output.now() - begun), left === undefined ? '' : `about ${duration(left)} left`]
            .filter(Boolean)
            .join(' · '),
      };
      live.push(entry);
      draw();
      retime();
      return {
        update(newDetail, leftSeconds) {
          detail = newDetail;
          left = leftSeconds;
          if (!output.isTerminal && output.now() - shown >= PLAIN_INTERVAL_MS) {
            shown = output.now();
            print(entry.line());
          }
        },
        done(result) {
          const at = live.indexOf(entry);
          if (at < 0) return;
          live.splice(at, 1);
          print(`${title}${result ? `: ${result}` : ''} (${seconds(output.now() - begun)})`);
          retime();
        },
      };
    },
  };
}

/** Shows nothing. */
export const silentProgress: Progress = {
  step: () => ({ update: () => undefined, done: () => undefined }),
  note: () => undefined,
};

/** `12.3 s` of milliseconds. */
function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

/** `40 s` or `6 min`, rounded up, so that a promise is rather kept than broken. */
export function duration(wholeSeconds: number): string {
  return wholeSeconds < 90 ? `${Math.max(1, Math.ceil(wholeSeconds))} s` : `${Math.ceil(wholeSeconds / 60)} min`;
}
