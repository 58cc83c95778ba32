/**
 * Reads Modelfiles: one instruction a line, values bare, in quotes or in triple quotes over several lines. Owns the
 * grammar; what instructions mean is told by `modelfile.ts`. Pure.
 */

/** A sentence with the line that is to blame. */
export class ModelfileError extends Error {
  /** From 1. */
  readonly line: number;

  constructor(line: number, message: string) {
    super(`line ${line} of the Modelfile: ${message}`);
    this.name = 'ModelfileError';
    this.line = line;
  }
}

const INSTRUCTIONS = [
  'FROM',
  'PARAMETER',
  'TEMPLATE',
  'SYSTEM',
  'ADAPTER',
  'MESSAGE',
  'LICENSE',
  'REQUIRES',
  'RENDERER',
  'PARSER',
] as const;

export interface Instruction {
  readonly name: (typeof INSTRUCTIONS)[number];
  /** The parameter of PARAMETER, the role of MESSAGE. */
  readonly key?: string;
  readonly value: string;
  readonly line: number;
}

/** @throws ModelfileError */
export function parseInstructions(text: string): Instruction[] {
  const lines = text.replace(/^\uFEFF/, '').split(/\r\n|\r|\n/);
  const instructions: Instruction[] = [];
  for (let index = 0; index < lines.length; index++) {
    const line = index + 1;
    const source = lines[index]?.trim() ?? '';
    if (source === '' || source.startsWith('#')) continue;
    const [, word = '', after = ''] = /^(\S+)\s*(.*)$/s.exec(source) ?? [];
    const name = INSTRUCTIONS.find((one) => one === word.toUpperCase());
    if (word.toUpperCase() === 'FILE')
      throw new ModelfileError(line, 'FILE is no instruction: write what the model should know into SYSTEM or MESSAGE');
    if (name === undefined)
      throw new ModelfileError(line, `${JSON.stringify(word)} is no instruction: ${INSTRUCTIONS.join(', ')} are`);
    const keyed = name === 'PARAMETER' || name === 'MESSAGE';
    const [, key = '', rest = ''] = keyed ? (/^(\S+)\s*(.*)$/s.exec(after) ?? []) : ['', '', after];
    if (keyed && key === '')
      throw new ModelfileError(
        line,
        name === 'MESSAGE' ? 'MESSAGE needs a role and a text' : 'PARAMETER needs a name and a value',
      );
    let value = rest;
    // A quote that was opened goes on until a line ends with it.
    while (!isClosed(value)) {
      index++;
      if (index >= lines.length) throw new ModelfileError(line, `the quotes of ${name} are never closed`);
      value = `${value}\n${lines[index] ?? ''}`;
    }
    value = unquoted(value.trim());
    if (value === '' && name !== 'SYSTEM' && name !== 'TEMPLATE')
      throw new ModelfileError(line, `${name} needs a value`);
    instructions.push({ name, ...(keyed ? { key } : {}), value, line });
  }
  return instructions;
}

function isClosed(value: string): boolean {
  const text = value.trim();
  if (text.startsWith('"""')) return text.length >= 6 && text.endsWith('"""');
  return !text.startsWith('"') || (text.length >= 2 && text.endsWith('"'));
}

function unquoted(text: string): string {
  if (text.startsWith('"""')) return text.slice(3, -3);
  return text.startsWith('"') ? text.slice(1, -1) : text;
}
