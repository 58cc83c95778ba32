/**
 * Text between a beginning and an end, for models that were trained to fill in. Owns the spellings of the marks.
 */
import { ApiError } from '../api-error.ts';
import type { Token } from '../engines/engine.ts';
import type { LoadedModel } from '../lifecycle.ts';
import { textPrompt } from './answer.ts';

interface Marks {
  readonly prefix: string;
  readonly suffix: string;
  readonly middle: string;
  /** The end stands before the beginning. */
  readonly suffixFirst?: true;
}

const MARKS: readonly Marks[] = [
  { prefix: '<|fim_prefix|>', suffix: '<|fim_suffix|>', middle: '<|fim_middle|>' },
  { prefix: '<fim_prefix>', suffix: '<fim_suffix>', middle: '<fim_middle>' },
  { prefix: '<fim-prefix>', suffix: '<fim-suffix>', middle: '<fim-middle>' },
  { prefix: '<｜fim▁begin｜>', suffix: '<｜fim▁hole｜>', middle: '<｜fim▁end｜>' },
  { prefix: '<PRE>', suffix: '<SUF>', middle: '<MID>' },
  { prefix: '[PREFIX]', suffix: '[SUFFIX]', middle: '', suffixFirst: true },
];

function marksOf({ engine }: LoadedModel): Marks | undefined {
  const isToken = (text: string) => text === '' || engine.tokenize(text, true).length === 1;
  return MARKS.find(({ prefix, suffix, middle }) => isToken(prefix) && isToken(suffix) && isToken(middle));
}

export function canInfill(model: LoadedModel): boolean {
  return model.template?.insert !== undefined || marksOf(model) !== undefined;
}

/** @throws ApiError (400) when the model has no tokens for it */
export function infillPrompt(model: LoadedModel, before: string, after: string): Token[] {
  const { template } = model;
  if (template?.insert) return textPrompt(model, template.insert(before, after));
  const marks = marksOf(model);
  if (!marks)
    throw new ApiError(400, 'this model does not support insert: leave suffix out', {
      param: 'suffix',
      code: 'unsupported_parameter',
    });
  const mark = (text: string) => ({ text, special: true });
  const text = (value: string) => ({ text: value, special: false });
  return textPrompt(
    model,
    marks.suffixFirst
      ? [mark(marks.suffix), text(after), mark(marks.prefix), text(before)]
      : [mark(marks.prefix), text(before), mark(marks.suffix), text(after), mark(marks.middle)],
  );
}
