/**
 * Owns a few lines of a terminal that are redrawn in place. Without a terminal a line is printed when it begins to say something
 * else: numbers alone do not count, but for quarters of a percentage.
 */

/** Where the lines go; replaced in tests. */
export interface BlockOutput {
  write(text: string): void;
  readonly isTerminal: boolean;
  columns(): number;
}

export interface LiveBlock {
  /** Shows these lines instead of the ones before. */
  show(lines: readonly string[]): void;
  /** Leaves the last lines where they are; the next `show` begins a new block. */
  end(): void;
}

const standardOutput: BlockOutput = {
  write: (text) => void process.stdout.write(text),
  isTerminal: process.stdout.isTTY,
  columns: () => process.stdout.columns || 80,
};

/** Makes a block on standard output, or on `output`. */
export function makeLiveBlock(output: BlockOutput = standardOutput): LiveBlock {
  let drawn: readonly string[] = [];
  const said = new Map<number, string>();
  return {
    show(lines) {
      if (output.isTerminal) {
        if (lines.join('\n') === drawn.join('\n')) return;
        const up = drawn.length > 0 ? `\u001B[${drawn.length}A` : '';
        const text = lines.map((line) => `\u001B[2K${line.slice(0, output.columns() - 1)}\n`).join('');
        // Fewer lines than before: the rest of the old block goes.
        output.write(`${up}${text}${lines.length < drawn.length ? '\u001B[J' : ''}`);
        drawn = lines;
        return;
      }
      for (const [index, line] of lines.entries()) {
        const gist = gistOf(line);
        if (said.get(index) === gist) continue;
        said.set(index, gist);
        output.write(`${line}\n`);
      }
    },
    end() {
      drawn = [];
      said.clear();
    },
  };
}

/** The line with its percentage as a quarter and without other numbers and bars. */
function gistOf(line: string): string {
  return line
    .replaceAll(/[█─]/g, '')
    .replaceAll(/(\d+)%/g, (_, percent: string) => `<${'I'.repeat(Math.floor(Number(percent) / 25))}>`)
    .replaceAll(/\d+(\.\d+)?( s left| MB\/s)?/g, '')
    .replaceAll(/\s+/g, ' ');
}
