/**
 * What onnxruntime-genai answers, for tests: its wheel is asked once for each model and list of prompts, and its answers
 * are kept. Not part of the image.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { cacheDir } from '@slm-operator/test/cache';
import { genaiPython, runPython } from '@slm-operator/test/fixtures/onnx/python';

export interface Reference {
  /** Tokens of the prompt, by its own tokenizer. */
  readonly prompt: readonly number[];
  /** Greedy answer, with the token that ended it. */
  readonly answer: readonly number[];
}

const PROGRAM = `
import json, sys
import onnxruntime_genai as genai
config = genai.Config(sys.argv[1])
config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": 1}}}}))
model = genai.Model(config)
tokenizer = genai.Tokenizer(model)
found = []
for text in json.loads(sys.argv[2]):
    prompt = [int(token) for token in tokenizer.encode(text)]
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(max_length=len(prompt) + int(sys.argv[3]), do_sample=False)
    generator = genai.Generator(model, parameters)
    generator.append_tokens(prompt)
    answer = []
    while not generator.is_done():
        generator.generate_next_token()
        answer.append(int(generator.get_next_tokens()[0]))
    found.append({"prompt": prompt, "answer": answer})
print(json.dumps(found))
`;

/**
 * @param folder of a model in onnxruntime-genai's layout; its name says what is in it
 * @param prompts as the model sees them, with its template's tokens
 * @param maxTokens of each answer
 */
export async function genaiAnswers(
  folder: string,
  prompts: readonly string[],
  maxTokens: number,
): Promise<readonly Reference[]> {
  const key = createHash('sha256')
    .update(JSON.stringify([PROGRAM, path.basename(folder), prompts, maxTokens]))
    .digest('hex')
    .slice(0, 16);
  const file = path.join(cacheDir, 'answers', `onnxruntime-genai-${key}.json`);
  const known = await readFile(file, 'utf8').catch(() => undefined);
  if (known !== undefined) return JSON.parse(known) as Reference[];
  const python = await genaiPython();
  const said = await runPython(python, ['-c', PROGRAM, folder, JSON.stringify(prompts), String(maxTokens)]);
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(`${file}.${process.pid}`, said);
  await rename(`${file}.${process.pid}`, file);
  return JSON.parse(said) as Reference[];
}
